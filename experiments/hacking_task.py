"""One study for every environment with two rewards: a controller, its clone, and what optimising the proxy does to it.

The controller is cloned into a policy network by maximum likelihood; the clone is the reference, whose occupancy is
held, and where each arm begins. Beside the arms stand the controller and open-loop policies that learn nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from rlcore.agents.orpo import Orpo, Ppo, PpoConfig, RatioConfig, RegularizerConfig, gather_base, orpo, ppo
from rlcore.agents.orpo.ppo import HeadKind
from rlcore.checks import check_integer, check_not_negative, check_positive
from rlcore.data import Transitions
from rlcore.errors import ConfigError
from rlcore.experiments.hacking_arm import Arm as Arm
from rlcore.experiments.hacking_arm import Point, charts, check_arms, train_arm
from rlcore.experiments.hacking_study import Watched, watch
from rlcore.functional.occupancy import check_correlation
from rlcore.reporting.lines import plot_charts
from rlcore.seeding import derive_seed
from rlcore.simulation.environment import Environment, EnvState
from rlcore.simulation.modes import Mode
from rlcore.simulation.policy import Policy
from rlcore.simulation.rollout import rollout_with_reset
from rlcore.training import HeldSource, RolloutSource
from rlcore.training.recorder import Recorder


@dataclass(frozen=True)
class Effort:
    """How much is gathered and learned."""

    paths: int = 32
    """Parallel paths."""
    steps: int = 64
    """Steps of each per batch."""
    iterations: int = 40
    """Batches."""
    base_paths: int = 32
    """Episodes of the reference, gathered once."""
    cloning_steps: int = 300
    """Gradient steps on rows of the controller, 512 at a time."""
    cloning_rate: float = 1e-3
    """Adam's step size for them."""
    cloning_rate_final: float | None = None
    """The same at the end of a round, in between linearly; None keeps it."""
    corrections: int = 0
    """Further rounds of cloning, on rows where the clone acts and the controller says what it would have done."""
    evaluation_paths: int = 32
    """Episodes behind each point of a curve."""
    evaluations: int = 5
    """Points of each curve after the first."""
    staggered: bool = False
    """Whether learning begins with paths at all ages of an episode, brought there by the clone, so that batches shorter
    than an episode are samples of all of it; else all paths are at its start."""
    hold_time: float = 0.0
    """Time for which the noise of a learner, and of the reference it is compared with, is held [s]; 0 draws it anew at
    every step. Held over an episode it tries policies, and a detour that pays only if it lasts is found."""
    mode: Mode = "eager"
    """How rollouts are carried out: 'eager', 'compiled', 'graph' on a GPU, or 'auto', by device and size."""


def check_effort(effort: Effort) -> None:
    """Its numbers at the door, since the first to notice would be minutes away."""
    counts = ("paths", "steps", "evaluation_paths", "evaluations")
    least = dict.fromkeys(counts, 1) | {"base_paths": 2, "iterations": 0, "cloning_steps": 0, "corrections": 0}
    for name, bound in least.items():
        value = getattr(effort, name)
        check_integer(f"effort.{name}", value)
        if value < bound:
            raise ConfigError(f"effort.{name} must be at least {bound}, got {value}")
    check_positive("effort.cloning_rate", effort.cloning_rate)
    check_not_negative("effort.hold_time", effort.hold_time, "s")
    if effort.cloning_rate_final is not None:
        check_not_negative("effort.cloning_rate_final", effort.cloning_rate_final)


@dataclass(frozen=True)
class Task:
    """What is studied."""

    name: str
    """Of its figure."""
    env: Environment
    controller: Policy
    """The policy to be cloned."""
    known: Mapping[str, Policy]
    """Policies that learn nothing, by name."""
    head: HeadKind = "auto"
    """Law of the actions."""
    measure: Callable[[EnvState], dict[str, Tensor]] = lambda state: {}
    """Further figures of a state."""
    peaks: tuple[str, ...] = ()
    """Those of them whose largest value is wanted too."""
    input_scale: Sequence[float] | None = None
    """What the policy's observations are multiplied with."""
    r: float | None = None
    """Correlation that is relied on; None takes the one measured on the reference."""
    held: RegularizerConfig = field(default_factory=RegularizerConfig)
    """How an occupancy is held, but for what an arm says: kind, strength, r and ratio."""
    burn_in: int = 0
    """Steps before an evaluation begins."""
    per_episode: float = 1.0
    """What returns are multiplied with, to compare with episodes of a published length."""
    note: str = ""
    """Said under the titles of its figure."""


def evaluate(task: Task, policy: Policy, effort: Effort, seed: int) -> dict[str, float]:
    """Both returns of an episode, the correlation of the rewards where both vary, and what the task measures."""
    steps = round(task.env.spec.horizon / task.env.spec.dt) - task.burn_in
    place = derive_seed(seed, "evaluation")
    found: Watched = watch(
        task.env,
        policy,
        paths=effort.evaluation_paths,
        steps=steps,
        burn_in=task.burn_in,
        seed=place,
        measure=task.measure,
    )
    proxy, true = (task.per_episode * total for total in found.totals())
    figures = {"true": true, "proxy": proxy, "r": found.correlation, "ended": found.ended, **found.figures}
    figures |= {f"{name}_most": found.peaks[name] for name in task.peaks}
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def clone(agent: Orpo | Ppo, obs: Tensor, action: Tensor, effort: Effort, seed: int) -> float:
    """Move the policy to a controller's actions [N, m] at [N, d]; the last mean log-likelihood."""
    networks, head = agent.proximal.networks, agent.proximal.head
    rate, final = effort.cloning_rate, effort.cloning_rate_final
    slope = 0.0 if final is None else (final - rate) / max(effort.cloning_steps, 1)
    optimizer = torch.optim.Adam(networks.parameters(), rate)
    generator, likelihood = torch.Generator().manual_seed(derive_seed(seed, "cloning")), torch.zeros(())
    for k in range(effort.cloning_steps):
        optimizer.param_groups[0]["lr"] = rate + slope * k
        rows = torch.randint(len(obs), (512,), generator=generator)
        likelihood = head.log_prob(networks.look(obs[rows].unsqueeze(0)).law, action[rows].unsqueeze(0)).mean()
        optimizer.zero_grad()
        (-likelihood).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return float(likelihood.detach())


def imitate(task: Task, agent: Orpo | Ppo, effort: Effort, seed: int) -> float:
    """Clone the controller; the last mean log-likelihood.

    A clone drifts to where the controller never is, and is lost there. So it acts, the controller labels what it met,
    and both sets of rows are learned from together, as often as `corrections` says.
    Source: Ross, Gordon and Bagnell, AISTATS 2011 (DAgger).
    """
    rows = gather_base(task.env, task.controller, paths=effort.base_paths, seed=derive_seed(seed, "controller"))
    obs, action = rows.obs.flatten(0, 1).float(), rows.action.flatten(0, 1).float()
    likelihood = clone(agent, obs, action, effort, seed)
    for k in range(effort.corrections):
        met = gather_base(task.env, agent, paths=effort.base_paths, seed=derive_seed(seed, f"correction {k}")).obs
        generator = torch.Generator().manual_seed(derive_seed(seed, f"labels {k}"))
        noise = torch.randn(*met.shape[:2], task.controller.noise_dim, generator=generator).to(met)
        labels = [task.controller.act(x, noise=z) for x, z in zip(met, noise, strict=True)]  # rows of a pool differ
        obs, action = torch.cat([obs, met.flatten(0, 1).float()]), torch.cat([action, *(x.float() for x in labels)])
        likelihood = clone(agent, obs, action, effort, derive_seed(seed, f"round {k}"))
    return likelihood


def run_task(
    task: Task,
    arms: Sequence[Arm],
    effort: Effort,
    learner: PpoConfig,
    ratio: RatioConfig,
    seed: int,
    recorder: Recorder,
) -> dict[str, float]:
    """Clone, gather the reference, train every arm from the clone; returns of all that was compared."""
    check_effort(effort)
    check_arms(arms)
    if task.r is not None:
        check_correlation(task.r)
    result: dict[str, float] = {}

    def compare(name: str, policy: Policy) -> None:
        result.update({f"{name}/{key}": value for key, value in evaluate(task, policy, effort, seed).items()})

    compare("controller", task.controller)
    for name, policy in task.known.items():
        compare(name, policy)
    base = ppo(task.env.spec, learner, seed=seed, head=task.head, input_scale=task.input_scale)
    result["clone/log_likelihood"] = imitate(task, base, effort, seed)
    compare("clone", base)
    rows = reference(task, base, effort, derive_seed(seed, "reference"))
    start = {name: value.clone() for name, value in base.proximal.networks.state_dict().items()}
    curves: dict[str, list[Point]] = {}
    for arm in arms:
        said = arm.regularizer(ratio, task.r)
        regularizer = replace(task.held, kind=said.kind, strength=said.strength, r=said.r, ratio=said.ratio)
        agent = orpo(task.env.spec, rows, regularizer, learner, seed=seed, head=task.head, input_scale=task.input_scale)
        agent.proximal.networks.load_state_dict(start)
        found, curves[arm.name] = learn(task, agent, effort, seed, recorder.child(arm.name, arm=arm.name))
        result |= {f"{arm.name}/{name}": value for name, value in found.items()}
    figure = recorder.figure_path(task.name)
    if figure is not None and curves:
        across = ["clone", max(task.known, key=lambda known: result[f"{known}/true"])]
        known = {who: {name: result[f"{who}/{name}"] for name in ("true", "proxy")} for who in across}
        plot_charts(charts(curves, known, task.note), figure)
    return recorder.finish(result)


def learn(
    task: Task, agent: Orpo, effort: Effort, seed: int, recorder: Recorder
) -> tuple[dict[str, float], list[Point]]:
    """Train one arm; its last returns and monitors, and its curve."""
    source = explorer(task.env, effort.paths, effort.steps, effort, seed)
    if effort.staggered:
        stagger(source, agent, derive_seed(seed, "ages"))
    return train_arm(
        agent,
        source,
        lambda: evaluate(task, agent.averaged(), effort, seed),
        recorder,
        iterations=effort.iterations,
        evaluations=effort.evaluations,
    )


def reference(task: Task, policy: Policy, effort: Effort, seed: int) -> Transitions:  # -> [K, B]
    """A whole episode on each path, with noise that is held as the learner's is."""
    if effort.hold_time == 0.0:
        return gather_base(task.env, policy, paths=effort.base_paths, seed=seed)
    steps = round(task.env.spec.horizon / task.env.spec.dt)
    return explorer(task.env, effort.base_paths, steps, replace(effort, mode="eager"), seed).next(policy)


def explorer(env: Environment, paths: int, steps: int, effort: Effort, seed: int) -> RolloutSource | HeldSource:
    """Paths of a policy whose noise is held for `hold_time`."""
    hold = round(min(effort.hold_time, env.spec.horizon) / env.spec.dt)
    if hold <= 1:
        return RolloutSource(env, paths, steps, seed=seed, mode=effort.mode)
    return HeldSource(env, paths, steps, seed=seed, hold=hold, mode=effort.mode)


def stagger(source: RolloutSource | HeldSource, policy: Policy, seed: int) -> None:
    """Bring the paths of a source to random ages: one horizon under a policy, in which each begins anew once."""
    stand, spec = source.stand, source.env.spec
    length = round(spec.horizon / spec.dt)
    ages = torch.randint(length, (stand.batch,), generator=torch.Generator().manual_seed(seed))
    stand = stand._replace(env=stand.env._replace(t=spec.dt * ages.to(stand.env.t)))
    for left in range(length, 0, -source.steps_per_call):
        steps = min(left, source.steps_per_call)
        stand = rollout_with_reset(source.env, policy, stand, steps, mode=source.mode)[1]
    source.stand = stand
