"""Updates of q-learning, CT-SAC and neural integral RL: the compiled graph beside the eager form, on the same rows."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from rlcore.agents.integral_rl import NeuralIntegralRl, NeuralIntegralRlConfig
from rlcore.agents.martingale import DeepConfig, QLearning, ct_sac
from rlcore.data import Transitions
from rlcore.envs.control.lqr import ERGODIC, ScalarLqr
from rlcore.experiments.benchmark.timing import Work, interleave, table
from rlcore.experiments.ergodic_lqr import Config, make_agent
from rlcore.experiments.integral_rl_basis import plane
from rlcore.functional.quadrature import IntegratedWiener
from rlcore.nn.mlp import Mlp
from rlcore.nn.positive import PositiveDefinite
from rlcore.simulation.environment import ControlSpec
from rlcore.training import RolloutSource

OBSERVATIONS, ACTIONS = 3, 1
STEPS = 10
"""Gauss-Newton steps in an update of integral RL."""


def q_learning(rows: int, compiled: bool) -> Work:
    """Updates on `rows` rows of the ergodic regulator; four parameters in features and the log-curvature."""
    env = ScalarLqr(ERGODIC)
    plain = make_agent(env, Config())
    agent = QLearning(plain.value, plain.q, replace(plain.config, compiled=compiled))
    batch = RolloutSource(env, rows, 1, seed=0).next(agent).flatten()

    def work() -> int:
        agent.update(batch)
        return 1

    return work


def windows(rows: int) -> Transitions:
    """Rows of noise as windows of two nodes."""
    draw = torch.Generator().manual_seed(0)
    obs, after = torch.randn(2, rows, OBSERVATIONS, generator=draw)
    node, dt = torch.randn(rows, 2, OBSERVATIONS, generator=draw), torch.full((rows,), 0.1)
    action, actions = (2.0 * torch.rand(*shape, generator=draw) - 1.0 for shape in ((rows, 1), (rows, 2, 1)))
    extras = {"node_obs": node, "node_action": actions, "node_weight": torch.full((rows, 2), 0.05)}
    return Transitions(obs, action, -0.1 * obs.square().sum(1), torch.full((rows,), 0.95), after, dt, extras)


def soft(rows: int, compiled: bool) -> Work:
    """Updates of CT-SAC, three networks of two hidden layers of 64."""
    spec = ControlSpec("noise", OBSERVATIONS, ACTIONS, 0, 0.05, 1.0, 0.5, action_low=-1.0, action_high=1.0)
    settings = DeepConfig(critic_rate=1e-4, actor_rate=1e-4, compiled=compiled)
    agent, batch = ct_sac(spec, settings, generator=torch.Generator().manual_seed(0)), windows(rows)

    def work() -> int:
        agent.update(batch)
        return 1

    return work


def neural(width: int, compiled: bool) -> Work:
    """Gauss-Newton steps of a network with one hidden layer, on the windows of the first policy, from its start."""
    study, draw = plane(), torch.Generator().manual_seed(0)
    psi = Mlp(study.env.spec.state_dim, (width,), max(2, width // 2), generator=draw)
    settings = NeuralIntegralRlConfig(steps=STEPS, stop=1e-12, least_decrease=-1e9, compiled=compiled)
    law = partial(first_law, study.known)
    agent = NeuralIntegralRl(PositiveDefinite(psi), study.known, IntegratedWiener(3), settings, law=law)
    batch = study.source(9).next(agent)
    start = {name: p.clone() for name, p in agent.network.state_dict().items()}

    def work() -> int:
        agent.network.load_state_dict(start)
        return round(float(agent.update(batch)["train/steps"]))

    return work


def first_law(known: Any, x: torch.Tensor) -> torch.Tensor:
    """The best action against V = |x|^2 / 2."""
    found: torch.Tensor = known.improved_action(x, x)
    return found


KINDS = (
    ("q-learning", q_learning, (64, 1024, 16384)),
    ("CT-SAC", soft, (64, 256, 1024)),
    ("neural integral RL", neural, (12, 24)),
)
"""What is updated, and its sizes: rows, for integral RL the width of the network."""


def measure(rounds: int = 9) -> list[dict[str, Any]]:
    """Updates per second by size, for integral RL Gauss-Newton steps; one thread."""
    torch.set_num_threads(1)
    found = []
    for what, make, sizes in KINDS:
        for size in sizes:
            works = {f"rlcore {what}, compiled": make(size, True), f"rlcore {what}": make(size, False)}
            rates = interleave(works, rounds=rounds, least=0.05)
            found += table(rates, f"rlcore {what}, compiled", what=f"{what}, update", batch=size)
    return found
