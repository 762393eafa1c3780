"""The learned value of the pendulum beside the grid solution of its Hamilton-Jacobi-Bellman equation.

rlcore run pendulum_hjb quick
rlcore run pendulum_hjb paper --seeds 3
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlcore.agents.martingale import DeepActorCritic
from rlcore.envs.control.pendulum import Pendulum, PendulumConfig
from rlcore.errors import ConfigError
from rlcore.experiments import deep_control
from rlcore.reporting.figures import new_figure, save, set_titles
from rlcore.simulation.environment import EnvState
from rlcore.simulation.policy import Policy
from rlcore.simulation.rollout import begin, rollout
from rlcore.training.recorder import SILENT, Recorder

POINTS = {"level": (0.5 * math.pi, 0.0), "hanging": (math.pi, 0.0)}
"""Where the optimal cost is known to 0.1 and 1 %: 3.73 and 6.75."""

TITLES = {"hjb": "Optimal cost, HJB on a grid", "learned": "Learned cost, -J", "rollout": "Cost of the policy"}

LEARNING = deep_control.Config(
    agent="ct-ddpg", dt=0.02, seconds=16.0, learner=replace(deep_control.LEARNER, decay_time=5.0), evaluations=4
)


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    training: deep_control.Config = LEARNING
    """How ct-sac or ct-ddpg learns; with ct-sac, -J holds the worth of the entropy too."""
    fine_dt: float = 0.01
    """Control interval of the rollouts that judge the policy [s]."""
    seconds: float = 12.0
    """Length of those rollouts [s]; what follows is discounted to nothing."""
    cells: int = 41
    """Points per axis of the surfaces."""
    reference_cells: int = 481
    """Cells per axis of the grid that gives the optimal cost at the two known points."""


PRESETS = {"quick": Config(), "paper": Config(replace(LEARNING, dt=0.01), cells=81)}


def rollout_cost(policy: Policy, config: Config, states: Tensor) -> Tensor:  # [B, 2] -> [B]
    """Discounted cost of the deterministic policy from each state (angle [rad], speed [rad/s]), at the fine step."""
    env = Pendulum(replace(PendulumConfig(), dt=config.fine_dt, horizon=math.inf))
    start = begin(env, len(states), seed=0)
    start = start._replace(env=EnvState(torch.zeros(len(states), dtype=torch.float64), states))
    steps, beta = round(config.seconds / config.fine_dt), env.spec.discount_rate
    found = rollout(env, policy, start, steps, deterministic=True)[0].reward.double()
    spread = -math.expm1(-beta * config.fine_dt) / (beta * config.fine_dt)
    weight = torch.exp(-beta * config.fine_dt * torch.arange(steps, dtype=torch.float64))
    return -spread * (weight @ found)


@torch.no_grad()
def learned_cost(agent: DeepActorCritic, states: Tensor) -> Tensor:  # [B, 2] -> [B]
    """-J at each state; it holds the worth of the entropy too."""
    angle, speed = states.unbind(1)
    cost: Tensor = -agent.value(torch.stack([torch.cos(angle), torch.sin(angle), speed], dim=1))
    return cost


def surfaces(agent: DeepActorCritic, config: Config) -> dict[str, Tensor]:  # each [cells, cells], angle first
    """Angle, speed, grid solution, learned cost and cost of the policy's rollouts."""
    env = Pendulum()
    axes = [torch.linspace(-end, end, config.cells) for end in (math.pi, env.config.max_speed)]
    angle, speed = torch.meshgrid(*axes, indexing="ij")
    states = torch.stack([angle.flatten(), speed.flatten()], dim=1)
    shape = angle.shape
    return {
        "angle": angle,
        "speed": speed,
        "hjb": -env.optimal_value(angle, speed),
        "learned": learned_cost(agent, states).view(shape),
        "rollout": rollout_cost(agent, config, states).view(shape),
    }


def draw(found: dict[str, Tensor], path: Path, subtitle: str) -> None:
    """Two surfaces, the maps beside them as `..._maps.png`, and the numbers as a CSV file."""
    draw_surfaces(found, path, subtitle)
    draw_maps(found, path.with_stem(f"{path.stem}_maps"), subtitle)
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(found)
        writer.writerows(zip(*(values.flatten().tolist() for values in found.values()), strict=True))


def draw_surfaces(found: dict[str, Tensor], path: Path, subtitle: str) -> None:
    """The grid solution and the learned cost over the plane, on one scale."""
    figure, every = new_figure(2, solid=True)
    highest = float(found["hjb"].max())
    for axes, name in zip(every, ("hjb", "learned"), strict=True):
        set_titles(axes, TITLES[name], subtitle, "angle [rad], 0 upright", "angular velocity [rad/s]")
        shape = [found[key].numpy() for key in ("angle", "speed", name)]
        axes.plot_surface(*shape, cmap="viridis", vmin=0.0, vmax=highest, rcount=81, ccount=81, linewidth=0.0)
        axes.set_zlim(0.0, highest)
        axes.set_zlabel("discounted cost")
        axes.set_yticks((-8, -4, 0, 4, 8))
        axes.yaxis.labelpad = 10.0
        axes.view_init(elev=35.0, azim=-60.0)
        axes.set_box_aspect(None, zoom=0.85)
    save(figure, path)


def draw_maps(found: dict[str, Tensor], path: Path, subtitle: str) -> None:
    """Three maps of one colour scale, with lines of equal cost."""
    figure, every = new_figure(3)
    image: Any = None
    for axes, (name, title) in zip(every, TITLES.items(), strict=True):
        set_titles(axes, title, subtitle, "angle [rad], 0 upright", "angular velocity [rad/s]")
        axes.grid(visible=False)
        values = found[name].numpy()
        ends = (found["angle"].numpy(), found["speed"].numpy())
        image = axes.pcolormesh(*ends, values, cmap="viridis", vmin=0.0, vmax=float(found["hjb"].max()), shading="auto")
        lines = axes.contour(*ends, values, levels=range(1, 9), colors="white", linewidths=0.6)
        axes.clabel(lines, fontsize=7)
    figure.colorbar(image, ax=every[-1], label="discounted cost")
    save(figure, path)


def train(config: Config, seed: int, recorder: Recorder = SILENT) -> DeepActorCritic:
    """The agent of the experiment `deep_control`, trained."""
    agent = deep_control.train(replace(config.training, task="pendulum"), seed, recorder)[0]
    if not isinstance(agent, DeepActorCritic):
        raise ConfigError(f"the surfaces are drawn for ct-sac and ct-ddpg, got {config.training.agent}")
    return agent


@torch.no_grad()
def point_costs(agent: DeepActorCritic, config: Config) -> dict[str, dict[str, float]]:
    """Optimal cost, -J and cost of the policy at `POINTS`."""
    states = torch.tensor(list(POINTS.values()))
    optimum = -Pendulum().optimal_value(states[:, 0], states[:, 1], cells=config.reference_cells)
    table = {"hjb": optimum, "learned": learned_cost(agent, states), "rollout": rollout_cost(agent, config, states)}
    return {kind: dict(zip(POINTS, costs.tolist(), strict=True)) for kind, costs in table.items()}


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Train, compare at the two known points and over the plane; returns costs and the mean error over the plane."""
    agent = train(config, seed, recorder.child("training"))
    costs = point_costs(agent, config)
    result = {f"eval/{kind}_{name}": cost for kind, at in costs.items() for name, cost in at.items()}
    found = surfaces(agent, config)
    for kind in ("learned", "rollout"):
        result[f"eval/{kind}_error"] = float((found[kind] - found["hjb"]).abs().mean() / found["hjb"].mean())
    figure = recorder.figure_path("pendulum_hjb")
    if figure is not None:
        draw(found, figure, f"seed {seed}, rollouts at dt = {config.fine_dt:g} s")
    return recorder.finish(result)
