"""WSRL's online step and Cal-QL's offline step with ten critics, beside the same steps as published code takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from rlcore.agents.actor_critic import WSRL, Cql, CqlConfig, DataSpaces, NetworkConfig, SacConfig, SacRedq, cal_ql
from rlcore.data import Transitions
from rlcore.experiments.benchmark.timing import interleave, table
from rlcore.nn.ensemble import Layers

OBSERVATIONS, ACTIONS, CRITICS = 17, 6, 10  # a walker's
SPACES = DataSpaces(OBSERVATIONS, ACTIONS)


def random_rows(count: int) -> Transitions:
    """Rows of noise."""
    generator = torch.Generator().manual_seed(0)
    obs, after = torch.randn(2, count, OBSERVATIONS, generator=generator)
    action = 2.0 * torch.rand(count, ACTIONS, generator=generator) - 1.0
    reward, ones = obs[:, 0].clone(), torch.ones(count)
    return Transitions(obs, action, reward, 0.99 * ones, after, ones, {"mc_return": reward})


class ModuleListWsrl:
    """The online step as a list of modules: every slow critic is evaluated, two are picked; Adam tensor by tensor."""

    def __init__(self, width: int) -> None:
        def mlp(inputs: int, outputs: int, norm: bool) -> nn.Sequential:
            layers: list[nn.Module] = []
            for before in (inputs, width):
                layers += [nn.Linear(before, width), *([nn.LayerNorm(width)] if norm else []), nn.ReLU()]
            return nn.Sequential(*layers, nn.Linear(width, outputs))

        inputs = OBSERVATIONS + ACTIONS
        self.actor = mlp(OBSERVATIONS, 2 * ACTIONS, False)
        self.critics, self.targets = (nn.ModuleList(mlp(inputs, 1, True) for _ in range(CRITICS)) for _ in range(2))
        self.targets.load_state_dict(self.critics.state_dict())
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.adam = {
            "critic": torch.optim.Adam(self.critics.parameters(), lr=3e-4),
            "actor": torch.optim.Adam(self.actor.parameters(), lr=1e-4),
            "temperature": torch.optim.Adam([self.log_temperature], lr=1e-4),
        }

    def draw(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """An action and its log-density."""
        mean, log_scale = self.actor(obs).chunk(2, -1)
        normal = torch.distributions.Normal(mean, log_scale.clamp(-11.5, 2.3).exp())
        z = normal.rsample()
        slope = 2.0 * (0.6931471805599453 - z - nn.functional.softplus(-2.0 * z))
        log_normal: Tensor = normal.log_prob(z)  # type: ignore[no-untyped-call]
        return torch.tanh(z), (log_normal - slope).sum(-1)

    def q(self, networks: nn.ModuleList, obs: Tensor, action: Tensor) -> Tensor:
        """Q of every member [E, N]."""
        x = torch.cat([obs, action], -1)
        return torch.stack([network(x).squeeze(-1) for network in networks])

    def step(self, name: str, loss: Tensor) -> None:
        """One step of the optimiser."""
        self.adam[name].zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.adam[name].step()

    def update(self, batch: Transitions) -> None:
        """Four critic steps, then one of policy and temperature."""
        for k in range(4):
            rows = batch[slice(256 * k, 256 * (k + 1))]
            with torch.no_grad():
                q = self.q(self.targets, rows.next_obs, self.draw(rows.next_obs)[0])
                target = rows.reward + rows.discount * q[torch.randint(CRITICS, (2,))].min(0).values
            self.step("critic", (self.q(self.critics, rows.obs, rows.action) - target).square().mean())
            with torch.no_grad():
                for slow, fast in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
                    slow.lerp_(fast, 0.005)
        action, log_prob = self.draw(batch.obs)
        temperature = nn.functional.softplus(self.log_temperature)
        q = self.q(self.critics, batch.obs, action).min(0).values
        self.step("actor", (temperature.detach() * log_prob - q).mean())
        self.step("temperature", temperature * (-log_prob.detach().mean() + ACTIONS))


class FullCalQl:
    """Our Cal-QL with the arithmetic of published code: all critics on all actions, of which two are then used."""

    def __init__(self, width: int) -> None:
        self.agent = offline(width, regularised=CRITICS)
        net = self.agent.networks
        chosen_targets = net.targets.forward

        def all_targets(x: Tensor, chosen: Tensor | None = None) -> Tensor:
            found = chosen_targets(x)
            assert chosen is not None
            return found[:, chosen[0]]

        net.targets.forward = all_targets  # type: ignore[method-assign]
        self.update = self.agent.update


def networks(width: int) -> NetworkConfig:
    """Ten critics with layer norm and a policy without."""
    layers = Layers((width, width), layer_norm=True)
    return NetworkConfig(CRITICS, critic=layers, actor=replace(layers, layer_norm=False))


def offline(width: int, *, regularised: int = 2, compiled: bool = False) -> Cql:
    """Cal-QL with WSRL's settings."""
    sac = SacConfig(networks(width), target_actions=10, compiled=compiled)
    return cal_ql(SPACES, CqlConfig(sac, regularised=regularised))


def online(width: int, *, compiled: bool = False) -> SacRedq:
    """WSRL's online agent."""
    return SacRedq(SPACES, replace(WSRL, networks=networks(width), compiled=compiled))


def repeated(update: Callable[[Transitions], Any], rows: Transitions, count: int) -> Callable[[], int]:
    """A workload of `count` updates on the same rows."""

    def work() -> int:
        for _ in range(count):
            update(rows)
        return count

    return work


def online_rates(width: int = 256, *, count: int = 1, rounds: int = 7, compiled: bool = True) -> dict[str, list[float]]:
    """Online steps per second: four critic updates of 256 rows, then one of policy and temperature on all 1024."""
    torch.set_num_threads(1)
    rows = random_rows(1024)
    workloads = {"stacked": online(width).update, "list of modules": ModuleListWsrl(width).update}
    if compiled:
        workloads["stacked, compiled"] = online(width, compiled=True).update
    return interleave({name: repeated(update, rows, count) for name, update in workloads.items()}, rounds=rounds)


def offline_rates(width: int = 256, *, count: int = 1, rounds: int = 7) -> dict[str, list[float]]:
    """Cal-QL updates per second on 256 rows with 30 sampled actions and ten next ones."""
    torch.set_num_threads(1)
    rows = random_rows(256)
    workloads = {"sampled members only": offline(width).update, "all members": FullCalQl(width).update}
    return interleave({name: repeated(update, rows, count) for name, update in workloads.items()}, rounds=rounds)


def measure() -> list[dict[str, Any]]:
    """Steps per second with ten critics of 256 x 256 and layer norm, 17 observations, 6 actions; one thread."""
    found = []
    for what, rates, best in (
        ("WSRL online", online_rates(), "stacked, compiled"),
        ("Cal-QL offline", offline_rates(), "sampled members only"),
    ):
        named = {f"{what}: {name}": values for name, values in rates.items()}
        found += table(named, f"{what}: {best}", batch=1024 if "online" in what else 256)
    return found
