"""WSRL's online and Cal-QL's offline step beside those of published code, and many seeds at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rlcore.agents.actor_critic import WSRL, Cql, CqlConfig, DataSpaces, NetworkConfig, SacConfig, SacRedq, cal_ql
from rlcore.data import Transitions
from rlcore.experiments.benchmark.module_lists import ModuleListCalQl, ModuleListWsrl
from rlcore.experiments.benchmark.timing import clock_of, interleave, table
from rlcore.nn.ensemble import Layers

OBSERVATIONS, ACTIONS, CRITICS = 17, 6, 10  # a walker's
SPACES = DataSpaces(OBSERVATIONS, ACTIONS)


def random_rows(*shape: int, device: str = "cpu") -> Transitions:
    """Rows of noise."""
    generator = torch.Generator().manual_seed(0)
    obs, after = torch.randn(2, *shape, OBSERVATIONS, generator=generator)
    action = 2.0 * torch.rand(*shape, ACTIONS, generator=generator) - 1.0
    reward, ones = obs[..., 0].clone(), torch.ones(shape)
    rows = Transitions(obs, action, reward, 0.99 * ones, after, ones, {"mc_return": reward})
    return rows.map(lambda x: x.to(device))


class FullCalQl:
    """Our Cal-QL with the arithmetic of published code: all critics on all actions, of which two are then used."""

    def __init__(self, width: int) -> None:
        self.agent = offline(width, regularised=CRITICS)
        net = self.agent.networks
        chosen_targets = net.targets.forward

        def all_targets(x: Tensor, chosen: Tensor | int | None = None) -> Tensor:
            found = chosen_targets(x)
            assert isinstance(chosen, Tensor)
            return found[:, chosen[0]]

        net.targets.forward = all_targets  # type: ignore[method-assign]
        self.update = self.agent.update


def networks(width: int, critics: int = CRITICS) -> NetworkConfig:
    """Critics with layer norm and a policy without."""
    layers = Layers((width, width), layer_norm=True)
    return NetworkConfig(critics, critic=layers, actor=replace(layers, layer_norm=False))


def offline(
    width: int, *, critics: int = CRITICS, regularised: int = 2, compiled: bool = False, device: str = "cpu"
) -> Cql:
    """Cal-QL with WSRL's settings."""
    sac = SacConfig(networks(width, critics), target_actions=10, compiled=compiled)
    return cal_ql(SPACES, CqlConfig(sac, regularised=regularised)).to(device)


def online(width: int, *, compiled: bool = False, device: str = "cpu", seeds: int = 1) -> SacRedq:
    """WSRL's online agent."""
    return SacRedq(SPACES, replace(WSRL, networks=networks(width), compiled=compiled), seeds=seeds).to(device)


def repeated(update: Callable[[Transitions], Any], rows: Transitions, count: int) -> Callable[[], int]:
    """A workload of `count` updates on the same rows; on a GPU it waits for the last."""

    def work() -> int:
        for _ in range(count):
            update(rows)
        if rows.reward.is_cuda:
            torch.cuda.synchronize()
        return count

    return work


def online_rates(
    width: int = 256, *, count: int = 1, rounds: int = 7, compiled: bool = True, device: str = "cpu"
) -> dict[str, list[float]]:
    """Online steps per second: four critic updates of 256 rows, then one of policy and temperature on all 1024."""
    torch.set_num_threads(1)
    rows = random_rows(1024, device=device)
    published = ModuleListWsrl(OBSERVATIONS, ACTIONS, width, critics=CRITICS, device=device)
    workloads = {"stacked": online(width, device=device).update, "list of modules": published.update}
    if compiled:
        workloads["stacked, compiled"] = online(width, compiled=True, device=device).update
    return interleave(
        {name: repeated(update, rows, count) for name, update in workloads.items()},
        rounds=rounds,
        clock=clock_of(device),
    )


def offline_rates(width: int = 256, *, count: int = 1, rounds: int = 7) -> dict[str, list[float]]:
    """Cal-QL updates per second on 256 rows with 30 sampled actions and ten next ones."""
    torch.set_num_threads(1)
    rows = random_rows(256)
    workloads = {"sampled members only": offline(width).update, "all members": FullCalQl(width).update}
    return interleave({name: repeated(update, rows, count) for name, update in workloads.items()}, rounds=rounds)


def two_critic_rates(
    width: int = 256, *, count: int = 1, rounds: int = 7, compiled: bool = True, device: str = "cpu"
) -> dict[str, list[float]]:
    """The same with two critics, as CORL has it, beside a list of modules."""
    torch.set_num_threads(1)
    rows = random_rows(256, device=device)
    published = ModuleListCalQl(OBSERVATIONS, ACTIONS, width, critics=2, device=device)
    workloads = {"stacked": offline(width, critics=2, device=device).update, "list of modules": published.update}
    if compiled:
        workloads["stacked, compiled"] = offline(width, critics=2, compiled=True, device=device).update
    return interleave(
        {name: repeated(update, rows, count) for name, update in workloads.items()},
        rounds=rounds,
        clock=clock_of(device),
    )


def seed_rates(
    width: int = 256, seeds: int = 8, *, count: int = 1, rounds: int = 7, compiled: bool = True, device: str = "cpu"
) -> dict[str, list[float]]:
    """Online steps per second, over all seeds: as one batch, and one seed after the other."""
    torch.set_num_threads(1)
    together = online(width, compiled=compiled, device=device, seeds=seeds)
    alone = [online(width, compiled=compiled, device=device) for _ in range(seeds)]
    batch, rows = random_rows(seeds, 1024, device=device), random_rows(1024, device=device)

    def one_by_one(_: Transitions) -> None:
        for agent in alone:
            agent.update(rows)

    workloads = {"one batch": together.update, "one by one": one_by_one}
    found = interleave(
        {name: repeated(update, batch, count) for name, update in workloads.items()},
        rounds=rounds,
        clock=clock_of(device),
    )
    return {name: [seeds * rate for rate in rates] for name, rates in found.items()}


def measure() -> list[dict[str, Any]]:
    """Steps per second with critics of 256 x 256 and layer norm, 17 observations, 6 actions; one thread, or one GPU."""
    found = []
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        workloads = [
            ("WSRL online", online_rates(device=device), "stacked, compiled", 1024),
            ("Cal-QL, 2 critics", two_critic_rates(device=device), "stacked, compiled", 256),
            ("8 seeds", seed_rates(device=device, rounds=3), "one batch", 8 * 1024),
        ]
        if device == "cpu":
            workloads.append(("Cal-QL, 10 critics", offline_rates(), "sampled members only", 256))
        for what, rates, best, batch in workloads:
            named = {f"{what}: {name}": values for name, values in rates.items()}
            found += table(named, f"{what}: {best}", clock=clock_of(device), batch=batch, device=device)
    return found
