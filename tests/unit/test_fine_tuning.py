"""The phases from offline to online: when the first update comes, what is kept, and that a run goes on bit for bit."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rlcore.agents.actor_critic import CqlConfig, NetworkConfig, SacConfig, SacRedq, cal_ql
from rlcore.agents.actor_critic.diagnostics import diagnose
from rlcore.agents.actor_critic.hand_over import weights_of
from rlcore.agents.actor_critic.wsrl import FineTuning, fine_tuning
from rlcore.data import Transitions
from rlcore.envs.control.lqr import ScalarLqr, ScalarLqrConfig
from rlcore.errors import ConfigError, FolderError
from rlcore.functional.returns import returns_to_go
from rlcore.nn.ensemble import Layers
from rlcore.seeding import Streams
from rlcore.simulation.policy import Feedback, UniformPolicy
from rlcore.training import BehaviourSource, Callback, Phase, RolloutSource, run
from rlcore.training import checkpoint as checkpoints
from rlcore.training.curve import Curve, dense_early
from rlcore.training.offline import DatasetSource
from rlcore.training.recorder import RunFolder
from rlcore.training.roll_in import RollInConfig, RollInSource

NETWORKS = NetworkConfig(critics=3, critic=Layers((8,), layer_norm=True), actor=Layers((8,)))
ONLINE = SacConfig(NETWORKS, critic_steps=2)
SEEDS = 2


def env() -> ScalarLqr:
    return ScalarLqr(ScalarLqrConfig(dt=0.1, horizon=1.0))


def data_set() -> Transitions:
    rows = RolloutSource(env(), 8, 20, seed=3).next(UniformPolicy(-1.0, 1.0, 1))
    returns = returns_to_go(rows.reward, rows.discount, rows.extras["last"])
    return rows.replace(extras={"mc_return": returns}).flatten()


def online_phases(agent: SacRedq, config: FineTuning, *, offline: Transitions | None = None) -> list[Phase]:
    feed = RolloutSource(env(), SEEDS, 1, seed=1)
    return fine_tuning(agent.update, feed, config, streams=Streams(0), seeds=SEEDS, offline=offline)


def fresh(config: SacConfig = ONLINE) -> SacRedq:
    return SacRedq(env().spec, config, seed=4, seeds=SEEDS)


@pytest.mark.parametrize(("warm_up", "per_update"), [(0, 1), (7, 1), (8, 4)])
def test_the_first_update_comes_after_the_warm_up_and_one_more_call(warm_up: int, per_update: int) -> None:
    agent, seen = fresh(), []

    def update(batch: Transitions) -> Mapping[str, Any]:
        seen.append((phases[0].source.steps // SEEDS, len(batch) // SEEDS))
        return {}

    feed = RolloutSource(env(), SEEDS, per_update, seed=1)
    config = FineTuning(warm_up, steps=12, steps_per_update=per_update, rows=16)
    phases = fine_tuning(update, feed, config, streams=Streams(0), seeds=SEEDS)
    run(agent, phases)
    assert seen[0] == (warm_up + per_update, 16)
    assert len(seen) == 12 // per_update


def test_appended_rows_are_drawn_like_those_that_are_gathered() -> None:
    data, agent = data_set()[:40], fresh()
    phases = online_phases(agent, FineTuning(0, 9, rows=4000, append=True), offline=data)
    source = phases[1].source
    for _ in range(3):
        batch = source.next(agent)
    assert source.steps == 3 * SEEDS
    offline = torch.isin(batch.obs[..., 0], data.obs[:, 0]).float().mean(1)  # [S]
    torch.testing.assert_close(offline, torch.full((SEEDS,), 40 / 43), rtol=0.0, atol=0.02)  # 4 standard deviations
    state = source.state_dict()
    again = online_phases(fresh(), FineTuning(0, 9, rows=4000, append=True), offline=data)[1].source
    again.load_state_dict(state)
    assert torch.equal(again.next(agent).obs, source.next(agent).obs)


def test_the_warm_up_leaves_every_bit_of_the_agent() -> None:
    agent = fresh()
    before = {name: value.clone() for name, value in weights_of(agent).items()}
    phases = online_phases(agent, FineTuning(50, 0, rows=16))
    run(agent, phases)
    assert all(torch.equal(value, before[name]) for name, value in weights_of(agent).items())
    assert phases[0].source.steps == 50 * SEEDS


def test_no_offline_row_is_left_in_the_online_phase(tmp_path: Path) -> None:
    """The data are freed when the offline phase is done, and a checkpoint of the online phase holds none of them."""
    data = data_set()
    traces = [weakref.ref(tensor) for tensor in (data.obs, data.action, data.extras["mc_return"])]
    marker = float(data.obs[5, 0])
    offline = cal_ql(env().spec, CqlConfig(replace(ONLINE, critic_steps=1)), seeds=SEEDS)
    offline.learn(DatasetSource(data, 16, generator=Streams(0)["offline"], seeds=SEEDS), 3)
    agent = SacRedq.warm_start(offline, env().spec, ONLINE, seeds=SEEDS)
    del data, offline
    gc.collect()
    assert all(trace() is None for trace in traces)
    with RunFolder(tmp_path / "run", silent=True, checkpoint_every=1) as recorder:
        recorder.train(agent, online_phases(agent, FineTuning(5, 5, rows=16)))
    state = checkpoints.read_state(tmp_path / "run" / "checkpoints" / "latest.pt")
    assert not any(bool((tensor == marker).any()) for tensor in tensors_in(state["sources"]))


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from tensors_in(item)


def test_diagnostics_change_no_bit_of_training() -> None:
    data, ends = data_set(), []
    for watched in (False, True):
        torch.manual_seed(0)
        agent = fresh()
        curve = Curve(lambda policy: diagnose(policy, data), lambda k: True, phase="online")
        run(agent, online_phases(agent, FineTuning(5, 20, rows=16)), [curve] if watched else [])
        ends.append({name: value.clone() for name, value in weights_of(agent).items()})
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert set(curve.values) == {"q", "td_error", "entropy", "q_spread", "bias"}
    assert all(value.shape == (20, SEEDS) and bool(value.isfinite().all()) for value in curve.values.values())


def test_diagnostics_are_what_they_say() -> None:
    """On rows that end, the TD error and the bias are known from Q alone."""
    data, agent = data_set(), SacRedq(env().spec, ONLINE, seed=4)
    ended = data.replace(discount=torch.zeros_like(data.discount), extras={"mc_return": data.reward})
    found = diagnose(agent, ended)
    with torch.no_grad():
        rows = agent.networks.rows(ended)
        q = agent.networks.q(rows.obs, rows.action)
    torch.testing.assert_close(found["td_error"], ((q - rows.reward.unsqueeze(1)) ** 2).mean((1, 2)))
    torch.testing.assert_close(found["bias"], q.mean((1, 2)) - rows.reward.mean())
    assert torch.equal(found["entropy"], diagnose(agent, ended)["entropy"])


class KilledError(Exception):
    """Stands for a kill."""


def whole_run(folder: Path, *, resume: bool, stop_at: int | None, retained: bool) -> dict[str, torch.Tensor]:
    """Pre-training, warm-up and online phase of one agent that keeps or forgets the data, with everything watched."""
    data, streams = data_set(), Streams(7)
    agent = cal_ql(env().spec, CqlConfig(replace(ONLINE, critic_steps=1)), seeds=SEEDS) if retained else fresh()
    rollouts, guide = RolloutSource(env(), SEEDS, 1, seed=1), Feedback(lambda x: -x)
    feed = RollInSource(rollouts, guide, RollInConfig(0.5, window=2), paths=SEEDS, seeds=SEEDS)
    share = {"offline_share": 0.5} if retained else {}
    phases = fine_tuning(
        agent.update if not retained else lambda batch: {},
        feed,
        FineTuning(6, 12, rows=16, **share),
        streams=streams,
        seeds=SEEDS,
        offline=data if retained else None,
    )
    if retained:
        phases.insert(
            0, Phase("offline", DatasetSource(data, 16, generator=streams["pre"], seeds=SEEDS), 6, agent.update)
        )
    curve = Curve(lambda policy: diagnose(policy, data), lambda k: k % 2 == 0, phase="online")

    def kill(tick: Any) -> None:
        if tick.iteration == stop_at:
            raise KilledError

    callbacks: list[Callback] = [curve, kill]
    with RunFolder(folder, {"retained": retained}, resume=resume, silent=True, checkpoint_every=1) as recorder:
        recorder.train(agent, phases, callbacks=callbacks, keep={"curve": curve, "streams": streams})
    return {**agent.state_dict(), **weights_of(agent), **curve.values}


@pytest.mark.parametrize("retained", [False, True])
def test_a_run_stopped_in_any_phase_goes_on_bit_for_bit(tmp_path: Path, retained: bool) -> None:
    expected = whole_run(tmp_path / "whole", resume=False, stop_at=None, retained=retained)
    for stop_at in (2, 9, 15, 18):
        folder = tmp_path / f"stopped-{stop_at}"
        with pytest.raises(KilledError):
            whole_run(folder, resume=False, stop_at=stop_at, retained=retained)
        found = whole_run(folder, resume=True, stop_at=None, retained=retained)
        for name, value in expected.items():
            equal = torch.equal(value, found[name]) if isinstance(value, torch.Tensor) else same(value, found[name])
            assert equal, f"{name} after a stop at {stop_at}"


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return a["device"] == b["device"] and torch.equal(a["state"], b["state"])


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, folder = fresh(), tmp_path / "run"
    expected = fresh()
    run(expected, online_phases(expected, FineTuning(3, 9, rows=16)))
    real, calls = Path.replace, []

    def full(self: Path, target: Path) -> Path:
        if str(target).endswith("latest.pt"):
            calls.append(target)
            if len(calls) == 5:
                raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with (
        pytest.raises(FolderError, match="No space left on device"),
        RunFolder(folder, silent=True, checkpoint_every=2) as recorder,
    ):
        recorder.train(agent, online_phases(agent, FineTuning(3, 9, rows=16)))
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["latest.pt"]
    again = fresh()
    with RunFolder(folder, resume=True, silent=True) as recorder:
        recorder.train(again, online_phases(again, FineTuning(3, 9, rows=16)))
    assert all(torch.equal(value, weights_of(again)[name]) for name, value in weights_of(expected).items())


def test_the_guide_acts_first_and_gives_way() -> None:
    source = RollInSource(
        RolloutSource(env(), 4, 1, seed=1),
        Feedback(lambda x: torch.full_like(x[:, :1], 0.5)),
        RollInConfig(seconds=0.4, stages=2, window=2, tolerance=1e6),
        paths=4,
        seeds=2,
    )
    learner = BehaviourSource(source, Feedback(lambda x: torch.full_like(x[:, :1], -0.5)))
    guided = [learner.next(Feedback(lambda x: x)).action[0, :, 0] for _ in range(30)]
    first = torch.stack(guided)  # [30, 4]: three episodes of ten steps, four, two and no guided ones
    assert (first[:10] == 0.5).sum(0).tolist() == [4] * 4
    assert (first[10:20] == 0.5).sum(0).tolist() == [2] * 4
    assert (first[20:] == 0.5).sum(0).tolist() == [0] * 4
    assert source.seconds.tolist() == [0.0, 0.0]


def test_the_guide_stays_where_returns_fell() -> None:
    rollouts, guide = RolloutSource(env(), 2, 1, seed=1), Feedback(lambda x: x)
    source = RollInSource(rollouts, guide, RollInConfig(1.0, 10, 1), paths=2, seeds=2)
    source.watch(torch.tensor([1.0, 1.0]), torch.tensor([True, True]))
    source.watch(torch.tensor([0.0, 1.0]), torch.tensor([True, True]))
    assert source.seconds.tolist() == pytest.approx([0.9, 0.8])


def test_evaluation_is_dense_where_a_collapse_would_be() -> None:
    due = dense_early(2, 10, 20)
    assert [k for k in range(1, 61) if due(k)] == [2, 4, 6, 8, 10, 20, 40, 60]


@pytest.mark.parametrize(
    ("config", "offline", "message"),
    [
        (FineTuning(-1), False, "must not be negative"),
        (FineTuning(offline_share=1.0), False, r"offline_share must be in \[0, 1\)"),
        (FineTuning(offline_share=0.5), False, "belong together"),
        (FineTuning(), True, "belong together"),
        (FineTuning(append=True), False, "belong together"),
        (FineTuning(append=True, offline_share=0.5), True, "either appended or a share"),
    ],
)
def test_settings_that_contradict_each_other_are_told(config: FineTuning, offline: bool, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        online_phases(fresh(), config, offline=data_set() if offline else None)
