"""Weights go from one agent to another, in memory and by file, with what was asked for and nothing else."""

from __future__ import annotations

import errno
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rlcore.agents.actor_critic import (
    WSRL,
    Cql,
    CqlConfig,
    DataSpaces,
    HandOver,
    Iql,
    IqlConfig,
    NetworkConfig,
    SacConfig,
    SacRedq,
    publish,
)
from rlcore.agents.actor_critic.hand_over import weights_of
from rlcore.data import Transitions
from rlcore.errors import CheckpointError, FolderError
from rlcore.nn.ensemble import Layers
from rlcore.training.weights import read_weights, write_weights

SPACES = DataSpaces(3, 2)
NETWORKS = NetworkConfig(critics=3, critic=Layers((8,), layer_norm=True), actor=Layers((8,)))
ONLINE = replace(WSRL, networks=NETWORKS)


def rows(seed: int = 0, *, seeds: int | None = None) -> Transitions:
    generator = torch.Generator().manual_seed(seed)
    lead = (32,) if seeds is None else (seeds, 32)
    obs, after = (torch.randn(*lead, 3, generator=generator) for _ in range(2))
    action = 2.0 * torch.rand(*lead, 2, generator=generator) - 1.0
    return Transitions(obs, action, obs.sum(-1), torch.full(lead, 0.9), after, torch.ones(lead))


def pretrained(seeds: int = 1) -> Cql:
    agent = Cql(SPACES, CqlConfig(SacConfig(NETWORKS), gap=0.8), seed=5, seeds=seeds)
    for k in range(3):
        agent.update(rows(k, seeds=None if seeds == 1 else seeds))
    return agent


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_everything_arrives_in_memory_and_by_file(tmp_path: Path) -> None:
    giver = pretrained()
    publish(giver, tmp_path / "weights.safetensors")
    online = SacRedq.warm_start(giver, SPACES, ONLINE)
    from_file = SacRedq.warm_start(tmp_path / "weights.safetensors", SPACES, ONLINE)
    assert same(weights_of(online), weights_of(giver))
    assert same(weights_of(from_file), weights_of(giver))
    for agent in (online, from_file):
        agent.update(rows(7))
    assert same(weights_of(online), weights_of(from_file))
    assert not same(weights_of(online), weights_of(giver))  # the giver does not move with it
    assert set(load_file(tmp_path / "weights.safetensors")) == set(weights_of(giver))


def test_an_update_after_the_hand_over_is_that_of_the_giver_without_conservatism() -> None:
    """A SAC agent and the one that took over from it do the same: moments and slow critics are there."""
    giver = SacRedq(SPACES, ONLINE, seed=5)
    for k in range(3):
        giver.update(rows(k))
    online = SacRedq.warm_start(giver, SPACES, ONLINE)
    online.core.random.set_extra_state(giver.core.random.get_extra_state())
    for agent in (giver, online):
        agent.update(rows(7))
    assert same(weights_of(online), weights_of(giver))


@pytest.mark.parametrize("kept", [("policy",), ("critics",), ("policy", "critics"), ()])
@pytest.mark.parametrize("moments", [True, False])
def test_parts_can_be_left_behind(kept: tuple[str, ...], moments: bool) -> None:
    giver, fresh = pretrained(), SacRedq(SPACES, ONLINE, seed=1)
    what = HandOver(policy="policy" in kept, critics="critics" in kept, temperature=False, moments=moments)
    found = weights_of(SacRedq.warm_start(giver, SPACES, ONLINE, what=what, seed=1))
    given, new = weights_of(giver), weights_of(fresh)
    for name, value in found.items():
        part = name.split(".")[2 if name.startswith("adam.") else 0]
        taken = part in kept or (part == "targets" and "critics" in kept)
        assert torch.equal(value, (given if taken else new)[name]), name
    trained = {name.split(".")[2] for name in found if name.startswith("adam.")}
    assert trained == (set(kept) if moments else set())


def test_one_pretrained_agent_serves_many_seeds() -> None:
    giver = pretrained()
    online = SacRedq.warm_start(giver, SPACES, ONLINE, seeds=4)
    obs = torch.randn(4, 3).repeat_interleave(4, 0)
    actions = online.act(obs).view(4, 4, 2)
    torch.testing.assert_close(actions, actions[:, :1].expand_as(actions))
    torch.testing.assert_close(actions[:, 0], giver.act(obs[::4]))
    online.update(rows(1, seeds=4))
    with pytest.raises(CheckpointError, match="4 seeds cannot serve 3"):
        SacRedq.warm_start(online, SPACES, ONLINE, seeds=3)


def test_iql_hands_over_without_a_temperature() -> None:
    networks = replace(NETWORKS, state_dependent_scale=False)
    giver = Iql(SPACES, IqlConfig(networks))
    giver.update(rows())
    online = SacRedq.warm_start(giver, SPACES, replace(ONLINE, networks=networks, initial_temperature=0.3))
    assert online.core.temperature.item() == pytest.approx(0.3)
    assert torch.equal(online.act(rows().obs), giver.act(rows().obs))


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        (replace(NETWORKS, critic=Layers((16,), layer_norm=True)), r"critics.*\[3, 5, 8\] there and \[3, 5, 16\] here"),
        (replace(NETWORKS, critics=5), "critics.*is .3, 5, 8. there and .5, 5, 8. here"),
        (replace(NETWORKS, critic=Layers((8,))), "has critics.norms.0.gain, which this agent has not"),
        (replace(NETWORKS, critic=Layers((8, 8), layer_norm=True)), "it lacks critics.hidden.1"),
        (replace(NETWORKS, state_dependent_scale=False), "it lacks policy.log_scale"),
    ],
)
def test_networks_that_do_not_fit_are_refused_and_nothing_changes(networks: NetworkConfig, message: str) -> None:
    agent = SacRedq(SPACES, replace(ONLINE, networks=networks), seed=1)
    before = {name: value.clone() for name, value in weights_of(agent).items()}
    from rlcore.agents.actor_critic import receive

    with pytest.raises(CheckpointError, match=message):
        receive(agent, pretrained())
    assert same(before, weights_of(agent))


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weights at"):
        read_weights(tmp_path / "none.safetensors")
    (tmp_path / "x").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="no safetensors file"):
        read_weights(tmp_path / "x")
    write_weights(tmp_path / "y", {"a": torch.ones(2)})
    with pytest.raises(CheckpointError, match="lack 'seeds'"):
        SacRedq.warm_start(tmp_path / "y", SPACES, ONLINE)


def test_a_full_disk_keeps_the_last_good_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    write_weights(path, {"a": torch.ones(2)})
    before = path.read_bytes()
    opened = Path.open

    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    def full(self: Path, mode: str = "r", *args: Any, **more: Any) -> Any:
        return Full() if mode == "wb" else opened(self, mode, *args, **more)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(FolderError, match="No space left on device"):
        write_weights(path, {"a": torch.zeros(2)})
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
