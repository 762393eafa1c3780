"""The tomato garden from a random start: PPO alone hacks the sprinkler, ORPO at lambda* comes near the true optimum.

rlcore run orpo_tomato quick
rlcore run orpo_tomato paper --runs 5
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from rlcore.agents.orpo import Orpo, PpoConfig, RatioConfig, gather_base, orpo, true_reward
from rlcore.agents.orpo.alarm import HackingAlarm
from rlcore.checks import check_integer, check_positive
from rlcore.envs.hacking.tomato import Tomato, TomatoConfig
from rlcore.envs.hacking.tomato_model import TabularPolicy, TomatoModel
from rlcore.errors import ConfigError
from rlcore.experiments.hacking_arm import Arm, Point, charts, check_arms, train_arm
from rlcore.nn.ensemble import Layers
from rlcore.reporting.lines import plot_charts
from rlcore.seeding import derive_seed
from rlcore.simulation.modes import Mode
from rlcore.simulation.policy import Policy
from rlcore.simulation.rollout import begin, rollout_with_reset
from rlcore.training import RolloutSource
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
RATIO = RatioConfig(layers=Layers((64, 64), activation="tanh", output_gain=0.1), rate=3e-3)


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
    mode: Mode = "eager"
    """How rollouts are carried out: 'eager', 'compiled', 'graph' on a GPU, or 'auto', by device and size."""
    device: str = "cpu"
    """'cpu' or 'cuda'."""


ALL = (Arm(), Arm("maxmin"), Arm("kl", 0.1), Arm("ad_kl", 2.0), Arm("none"))
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
    data = gather_base(env, base, paths=config.base_paths, seed=derive_seed(seed, "reference"))
    regularizer = arm.regularizer(config.ratio, config.r)
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
    check_arms(config.arms)
    env = Tomato(config.env, device=config.device)
    base = reference(env, config.temperature)
    result = baselines(base.model, base, config.env.steps)
    curves: dict[str, list[Point]] = {}
    for arm in config.arms:
        agent = make_agent(env, base, config, arm, seed)
        found, curves[arm.name] = learn(env, agent, config, seed, recorder.child(arm.name, arm=arm.name))
        result |= {f"{arm.name}/{name}": value for name, value in found.items()}
    figure = recorder.figure_path("orpo_tomato")
    if figure is not None:
        runs = f"mean of {config.runs} runs" if config.runs > 1 else "one run"
        note = f"{runs} from a random start; reference tau = {config.temperature:g}"
        across = {"reference": ("true", "proxy"), "true optimum": ("true",), "proxy optimum": ("proxy",)}
        known = {who: {name: result[f"baseline/{who}/{name}"] for name in names} for who, names in across.items()}
        plot_charts(charts(curves, known, note), figure)
    return recorder.finish(result)


def learn(
    env: Tomato, agent: Orpo, config: Config, seed: int, recorder: Recorder
) -> tuple[dict[str, float], list[Point]]:
    """Train one arm; its last returns, over all runs, and its monitors, and its curve."""
    source = RolloutSource(env, config.paths * config.runs, config.env.steps, seed=seed, mode=config.mode)

    def measure() -> dict[str, float]:
        both = returns(env, agent, config.runs, seed=seed)
        found = {name: float(x.mean()) for name, x in zip(("true", "proxy"), both, strict=True)}
        for name, x in zip(("true", "proxy"), both, strict=True):
            found |= {f"{name}_{k}": value for k, value in enumerate(x.tolist())}
        return found

    return train_arm(
        agent,
        source,
        measure,
        recorder,
        iterations=config.iterations,
        evaluations=config.evaluations,
        runs=config.runs,
        callbacks=[] if recorder.silent else [HackingAlarm(after=config.iterations // 2)],
    )
