"""The tomato garden from a random start: PPO alone hacks the sprinkler, ORPO at lambda* comes near the true optimum.

rlcore run orpo_tomato quick
rlcore run orpo_tomato paper --runs 5
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rlcore.agents.orpo import (
    Certified,
    Constant,
    Orpo,
    PpoConfig,
    RatioConfig,
    RegularizerConfig,
    gather_base,
    orpo,
    true_reward,
)
from rlcore.agents.orpo.alarm import HackingAlarm
from rlcore.agents.orpo.regularizer import Kind
from rlcore.checks import check_integer, check_positive
from rlcore.envs.hacking.tomato import Tomato, TomatoConfig
from rlcore.envs.hacking.tomato_model import TabularPolicy, TomatoModel
from rlcore.errors import ConfigError
from rlcore.nn.ensemble import Layers
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.seeding import derive_seed
from rlcore.simulation.policy import Policy
from rlcore.simulation.rollout import begin, rollout_with_reset
from rlcore.training import Phase, RolloutSource
from rlcore.training.recorder import SILENT, Recorder

EVALUATION_PATHS = 256
LEARNER = PpoConfig(
    trace_time=50.0,
    clip=0.05,
    target_kl=2e-3,
    minibatch=256,
    epochs=8,
    rate=1e-3,
    entropy=0.1,
    entropy_final=0.01,
    anneal_steps=200_000,
)
RATIO = RatioConfig(layers=Layers((64, 64), activation="tanh", output_gain=0.1), steps=48)


@dataclass(frozen=True)
class Arm:
    """One way to regularise."""

    kind: Kind = "sqrt_chi2"
    """What is penalised."""
    strength: float | None = None
    """lambda [reward per step]; None takes lambda* (or r, for maxmin)."""

    @property
    def name(self) -> str:
        return self.kind if self.strength is None else f"{self.kind}-{self.strength:g}"


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    env: TomatoConfig = field(default_factory=TomatoConfig)
    temperature: float = 0.15
    """tau of the reference 0.9 softmax(Q*_true / tau) + 0.1 uniform [reward]; smaller is better."""
    arms: tuple[Arm, ...] = (Arm(), Arm("none"))
    """Ways to regularise, each from the same random start."""
    runs: int = 1
    """Independent runs side by side in one batch."""
    paths: int = 30
    """Parallel paths per run; a batch is an episode of each."""
    iterations: int = 60
    """Batches."""
    base_paths: int = 2048
    """Episodes of the reference, gathered once: one in 200 sees the sprinkler, on which r depends."""
    learner: PpoConfig = LEARNER
    """PPO."""
    ratio: RatioConfig = RATIO
    """How occupancies are compared."""
    r: float | None = None
    """Correlation on the reference; None measures it there."""
    evaluations: int = 20
    """Points of each curve."""
    device: str = "cpu"
    """'cpu' or 'cuda'."""


ALL = (Arm(), Arm("maxmin"), Arm("kl", 0.1), Arm("ad_kl", 0.1), Arm("none"))
PRESETS = {"quick": Config(iterations=30), "paper": Config(arms=ALL, runs=5, iterations=150)}


def returns(env: Tomato, policy: Policy, runs: int = 1, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """True and proxy return of an episode, in the mean over paths: [S] each."""
    state = begin(env, EVALUATION_PATHS * runs, seed=derive_seed(seed, "evaluation"))
    rows, _ = rollout_with_reset(env, policy, state, env.config.steps)
    sums = (true_reward(rows).sum(0), rows.reward.sum(0))
    true, proxy = (x.reshape(-1, runs).mean(0) for x in sums)
    return true, proxy


def reference(env: Tomato, temperature: float) -> TabularPolicy:
    """A decent policy that leaves room."""
    check_positive("temperature", temperature)
    model = env.model()
    return TabularPolicy(model, model.softened(temperature))


def make_agent(env: Tomato, base: TabularPolicy, config: Config, arm: Arm, seed: int) -> Orpo:
    """ORPO, or PPO that is only watched."""
    strength = Certified() if arm.strength is None else Constant(arm.strength)
    r = arm.strength if arm.kind == "maxmin" and arm.strength is not None else config.r
    regularizer = RegularizerConfig(
        arm.kind, Constant(0.0) if arm.kind == "none" else strength, r=r, ratio=config.ratio
    )
    data = gather_base(env, base, paths=config.base_paths, seed=derive_seed(seed, "reference"))
    agent = orpo(env.spec, data, regularizer, config.learner, seed=seed, seeds=config.runs, base_law=base.law)
    return agent.to(env.device)


def baselines(model: TomatoModel, base: TabularPolicy, steps: int) -> dict[str, float]:
    """Exact true and proxy returns of policies that need no learning."""
    actions = model.true.shape[1]
    policies = {
        "reference": base.table.double().cpu(),
        "uniform": torch.full_like(model.true, 1.0 / actions),
        "true optimum": model.problem.best(model.true),
        "proxy optimum": model.problem.best(model.proxy),
    }
    constants = {name: k for k, name in enumerate(("right", "left", "down", "up"))}
    policies |= {f"always {n}": torch.eye(actions).double()[k].expand_as(model.true) for n, k in constants.items()}
    found: dict[str, float] = {}
    for name, policy in policies.items():
        true, proxy = model.problem.episode(policy, model.true, model.proxy, steps=steps)
        found |= {f"baseline/{name}/true": true, f"baseline/{name}/proxy": proxy}
    return found


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Every arm from the same start; true and proxy return over an episode, and the certificate."""
    check_integer(
        "runs, paths, iterations, evaluations", config.runs, config.paths, config.iterations, config.evaluations
    )
    if min(config.runs, config.paths, config.iterations, config.evaluations) < 1 or not config.arms:
        raise ConfigError("need at least one run, path, iteration, evaluation and arm")
    env = Tomato(config.env, device=config.device)
    base = reference(env, config.temperature)
    result = baselines(base.model, base, config.env.steps)
    curves: dict[str, list[tuple[int, float, float]]] = {}
    for arm in config.arms:
        agent = make_agent(env, base, config, arm, seed)
        curve = curves[arm.name] = []
        found = train_arm(env, agent, config, arm, seed, curve, recorder.child(arm.name, arm=arm.name))
        result |= {f"{arm.name}/{name}": value for name, value in found.items()}
    figure = recorder.figure_path("orpo_tomato")
    if figure is not None:
        plot_charts(charts(config, curves, result), figure)
    return recorder.finish(result)


def train_arm(
    env: Tomato,
    agent: Orpo,
    config: Config,
    arm: Arm,
    seed: int,
    curve: list[tuple[int, float, float]],
    recorder: Recorder,
) -> dict[str, float]:
    """Train one arm; its last returns, over all runs, and its monitors."""
    source = RolloutSource(env, config.paths * config.runs, config.env.steps, seed=seed)

    def measure() -> Mapping[str, float]:
        true, proxy = returns(env, agent, config.runs, seed=seed)
        curve.append((source.steps // config.runs, float(true.mean()), float(proxy.mean())))
        spread = {f"eval/true_{k}": value for k, value in enumerate(true.tolist())}
        spread |= {f"eval/proxy_{k}": value for k, value in enumerate(proxy.tolist())}
        return {"eval/true": curve[-1][1], "eval/proxy": curve[-1][2], **spread}

    measure()
    recorder.hparams({"agent": "orpo", "kind": arm.kind})
    found = recorder.train(
        agent,
        [Phase("learn", source, config.iterations, agent.update)],
        evaluate=measure,
        evaluate_every=max(1, config.iterations // config.evaluations),
        log_every=max(1, config.iterations // 100),
        main_metric="eval/true",
        callbacks=[HackingAlarm(after=config.iterations // 2)] if not recorder.silent else [],
    )
    kept = {name: found[name] for name in found if name.split("/")[0] in ("eval", "hack", "div", "disc", "reg")}
    return recorder.finish(kept)


def charts(
    config: Config, curves: Mapping[str, list[tuple[int, float, float]]], result: Mapping[str, float]
) -> list[Chart]:
    """True and proxy return against environment steps."""
    subtitle = f"mean of {config.runs} runs from a random start; reference tau = {config.temperature:g}"
    found = []
    for column, name in ((1, "true"), (2, "proxy")):
        lines = [Line(arm, [float(row[0]) for row in c], [row[column] for row in c]) for arm, c in curves.items()]
        steps = [0.0, max(line.x[-1] for line in lines)]
        for kind in ("reference", f"{name} optimum"):
            lines.append(Line(kind, steps, [result[f"baseline/{kind}/{name}"]] * 2, theory=True))
        found.append(
            Chart(
                f"{name.capitalize()} return of an episode",
                subtitle,
                "steps",
                "return",
                lines,
                log_x=False,
                log_y=False,
            )
        )
    return found
