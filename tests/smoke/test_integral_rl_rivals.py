"""The problems of integral RL serve other learners too: our deep and q-learning agents, and Stable-Baselines3's SAC."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy as mean_reward

import rlcore.envs
from rlcore.agents.integral_rl import IntegralRl
from rlcore.agents.martingale import LeastSquaresQ, LeastSquaresQConfig
from rlcore.experiments import deep_control
from rlcore.experiments.integral_rl_tasks import task
from rlcore.experiments.tasks import Task
from rlcore.functional.quadrature import IntegratedWiener
from rlcore.interop.sb3 import Sb3Policy, Sb3VecEnv
from rlcore.reporting.evaluation import evaluate
from rlcore.simulation import Feedback
from rlcore.simulation.policy import GaussianFeedback
from rlcore.training import BehaviourSource, RolloutSource
from rlcore.training.closed_loop_source import ClosedLoopSource

IDS = ("rlcore/ThirdOrderLinear-v0", "rlcore/SineSystem-v0")


def learned(env_id: str) -> tuple[IntegralRl, torch.Tensor]:
    problem = task(type(rlcore.envs.make(env_id))(dtype=torch.float64))
    agent = IntegralRl(problem.basis, problem.known, IntegratedWiener(3), problem.env.admissible_weights)
    source = ClosedLoopSource(problem.paths, problem.starts, window=0.2, count=3, nodes=9)
    agent.learn(source, 8)
    return agent, problem.env.optimal_weights


@pytest.mark.parametrize("env_id", IDS)
def test_deep_agents_learn_on_it(env_id):
    env = rlcore.envs.make(env_id)
    config = deep_control.Config(
        agent="ct-ddpg",
        dt=env.spec.dt,
        paths=4,
        seconds=1.6,
        hidden=(8,),
        replay=deep_control.Replay(updates=4, rows=32),
    )
    task = Task(env, env, (1.0,) * env.spec.state_dim, lambda: (-1.0, 0.0))
    agent, source, iterations = deep_control.replayed(task, config, 0)
    metrics = agent.learn(source, iterations)
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert evaluate(agent, env, paths=8).mean < evaluate(env.optimal_policy(), env, paths=8).mean


@pytest.mark.parametrize("env_id", IDS)
def test_sac_of_stable_baselines_learns_on_it(env_id):
    env = rlcore.envs.make(env_id)
    model = SAC(
        "MlpPolicy", Sb3VecEnv(env, 4), learning_starts=32, gradient_steps=1, seed=0, policy_kwargs={"net_arch": [8]}
    )
    model.learn(100)
    assert evaluate(Sb3Policy(model), env, paths=8).mean < evaluate(env.optimal_policy(), env, paths=8).mean


@pytest.mark.parametrize("env_id", IDS)
def test_what_integral_rl_learned_is_the_best_of_all_in_sb3s_own_evaluation(env_id):
    agent, best = learned(env_id)
    assert float((agent.weights - best).abs().max()) < 1e-5
    env, one = gymnasium.make(env_id), rlcore.envs.make(env_id)
    reward, _ = mean_reward(agent, env, n_eval_episodes=2, warn=False)
    assert np.isfinite(reward)
    mine = evaluate(Feedback(lambda x: agent.act(x.double()).to(x.dtype)), one, paths=32).mean
    optimum = evaluate(one.optimal_policy(), one, paths=32).mean
    assert mine == pytest.approx(optimum, rel=1e-5)


def test_least_squares_q_learning_finds_the_same_gain_up_to_the_discount():
    """The rows of a discounted copy: with a small rate the gain is near that of the undiscounted problem."""
    env = rlcore.envs.make("rlcore/ThirdOrderLinear-v0")
    agent = LeastSquaresQ(3, 1, LeastSquaresQConfig(discount_rate=0.05, temperature=1e-3))
    behaviour = GaussianFeedback(lambda x: x.new_zeros(len(x), 1), 1.0, 1)
    feed = BehaviourSource(RolloutSource(env, 256, 100, seed=0), behaviour)
    for _ in range(8):
        agent.update(feed.next(agent))
    assert float((agent.gain + env.optimal_gain.double()).abs().max()) < 0.25
