"""Windows, normalised q-functions and the deep agents, on a linear-quadratic problem whose J and q are known.

dx = (-x + u) dt without noise, reward -(x^2 + u^2) per second, discount rate 1/2, policy u = -0.4 x:
J = -p x^2 with p = (1 + 0.16) / (0.5 + 2 * 1.4), and q(x, u) = r + J'(x) (-x + u) - J / 2.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from rlcore import ControlledDiffusion, ControlSpec, Rk4
from rlcore.agents.martingale import Cppo, CppoConfig, DeepActorCritic, DeepConfig
from rlcore.data import ReplayBuffer, Transitions
from rlcore.envs.control.lqr import LQ_B, ScalarLqr
from rlcore.errors import NumericsError
from rlcore.functional.returns import traced_sum
from rlcore.nn.gaussian import Gaussian
from rlcore.nn.mlp import LinearInFeatures, Mlp
from rlcore.nn.normalised_q import NormalisedQ
from rlcore.nn.squashed import Cloud, SquashedFeedback, SquashedGaussian
from rlcore.simulation import EnvState, GaussianFeedback, UniformPolicy
from rlcore.training import CorrelatedSource, HeldSource, ReplaySource, RolloutSource, WindowSource
from rlcore.training.windows import node_integral, windows

GAIN, BETA = 0.4, 0.5
P = (1.0 + GAIN**2) / (BETA + 2.0 * (1.0 + GAIN))


class Linear(ControlledDiffusion):
    """The problem of the docstring."""

    def __init__(self, dt: float) -> None:
        spec = ControlSpec("test", 1, 1, 0, dt, horizon=2.0, discount_rate=BETA, action_low=-2.0, action_high=2.0)
        super().__init__(spec, Rk4(1), dtype=torch.float64)

    def initial_state(self, noise: Tensor) -> EnvState:
        return EnvState(torch.zeros(len(noise), dtype=torch.float64), noise)

    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return u - x

    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return -(x**2 + u**2).squeeze(-1)


def true_q(x: Tensor, u: Tensor) -> Tensor:
    return (-(x**2) - u**2 - 2.0 * P * x * (u - x) + BETA * P * x**2).squeeze(-1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_windows(dt: float, nodes: int = 1000) -> Transitions:
    source = RolloutSource(Linear(dt), 256, round(1.0 / dt), seed=0)
    steps = round(0.2 / dt)
    cut = WindowSource(source, steps, stride=steps, nodes=nodes, discount_rate=BETA, generator=generator())
    return cut.next(UniformPolicy(-2, 2, 1)).flatten()


def test_true_functions_leave_increments_of_first_order_in_dt() -> None:
    sizes = []
    for dt in (0.02, 0.01):
        rows = some_windows(dt)
        running = node_integral(rows, true_q(rows.extras["node_obs"], rows.extras["node_action"]))
        value, after = (-P * x.squeeze(-1) ** 2 for x in (rows.obs, rows.next_obs))
        sizes.append(float((rows.reward - running + rows.discount * after - value).abs().mean()))
    assert sizes[1] < 0.01 * float(rows.reward.abs().mean()) * 5
    assert 1.5 < sizes[0] / sizes[1] < 3.0


def test_the_number_of_windows_does_not_depend_on_dt() -> None:
    assert len({len(some_windows(dt)) for dt in (0.1, 0.02, 0.004)}) == 1


def test_windows_do_not_depend_on_how_much_is_gathered_at_a_time() -> None:
    def gathered(steps: int, calls: int) -> Tensor:
        feed = HeldSource(Linear(0.02), 4, steps, seed=0, hold=5)
        cut = WindowSource(feed, 10, stride=5, nodes=1, discount_rate=BETA, generator=generator())
        return torch.cat([cut.next(UniformPolicy(-2, 2, 1)).reward for _ in range(calls)])

    whole, pieces = gathered(120, 1), gathered(7, 14)
    assert len(whole) == 23
    assert torch.equal(whole[: len(pieces)], pieces[: len(whole)])


def test_a_window_source_resumes_with_its_pending_steps() -> None:
    def source() -> WindowSource:
        feed = HeldSource(Linear(0.02), 4, 7, seed=0, hold=5)
        return WindowSource(feed, 10, stride=5, nodes=2, discount_rate=BETA, generator=generator())

    policy, first, second = UniformPolicy(-2, 2, 1), source(), source()
    first.next(policy)
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        assert torch.equal(first.next(policy).extras["node_obs"], second.next(policy).extras["node_obs"])


def test_held_noise_changes_only_when_its_time_is_over_and_by_its_share() -> None:
    policy = GaussianFeedback(lambda obs: 0.0 * obs, 1.0, 1)
    feed = HeldSource(Linear(0.02), 6, 8, seed=3, hold=5, shares=(0.0, 0.5, 1.0))
    action = torch.cat([feed.next(policy).action for _ in range(5)]).squeeze(-1)  # [40, 6]
    holds = action.view(8, 5, 6)
    assert torch.equal(holds, holds[:, :1].expand_as(holds))
    assert (holds[1:, 0, 2] != holds[:-1, 0, 2]).all()
    assert float(holds[:, :, [0, 3]].abs().max()) == 0.0
    one = HeldSource(Linear(0.02), 6, 8, seed=3, hold=5).next(policy).action.squeeze(-1)
    assert torch.allclose(action[:8, 1], 0.5 * one[:, 1])


def test_spread_episodes_end_evenly_over_the_horizon() -> None:
    policy = UniformPolicy(-2, 2, 1)
    ends = {
        spread: HeldSource(Linear(0.02), 10, 100, seed=0, hold=5, spread=spread).next(policy).extras["last"].nonzero()
        for spread in (True, False)
    }
    assert ends[True].tolist() == [[10 * k + 9, 9 - k] for k in range(10)]  # an episode has 100 steps
    assert ends[False].tolist() == [[99, path] for path in range(10)]


def test_a_deterministic_actor_in_a_corner_still_feels_its_way_back() -> None:
    network = Mlp(1, (8,), 1, generator=generator())
    torch.nn.init.constant_(network.layers[-1].bias, 12.0)
    actor = SquashedFeedback(network, 1, -2.0, 2.0, exploration=1.0)
    action = actor.act(torch.zeros(1, 1), None)
    action.sum().backward()
    assert 1.9 < float(action.detach()) < 2.0
    assert float(network.layers[-1].bias.grad) > 1e-4  # half / 12^3; tanh would leave 1e-10


def test_divergence_ends_the_run_and_says_what_to_change() -> None:
    agent, source = replay_agent(actor_rate=0.4)
    agent.value.theta.data.fill_(1e12)
    with pytest.raises(NumericsError, match=r"diverged after .* got .*; lower critic_rate or actor_rate"):
        agent.learn(source, 2)


def test_a_window_is_cut_where_its_episode_ends() -> None:
    steps, paths = 7, 50
    random = generator()
    reward = torch.randn(steps, paths, generator=random)
    ends = torch.rand(steps, paths, generator=random) < 0.2
    terminated = ends & (torch.rand(steps, paths, generator=random) < 0.5)
    obs = torch.arange(steps * paths, dtype=torch.float32).view(steps, paths, 1)
    dt = torch.full((steps, paths), 0.1)
    batch = Transitions(obs, obs, reward, math.exp(-0.05) * ~terminated, obs + 0.5, dt, {"last": ends})
    rows = windows(batch, 4, stride=3, nodes=4, discount_rate=0.0, generator=random).flatten()
    assert len(rows) == 2 * paths
    for start in (0, 3):
        for path in range(paths):
            total, discount, seconds, at = 0.0, 1.0, 0.0, start
            for at in range(start, min(start + 4, steps)):
                total += discount * float(reward[at, path])
                discount *= math.exp(-0.05) * (not terminated[at, path])
                seconds += 0.1
                if ends[at, path]:
                    break
            row = rows[path if start == 0 else paths + path]
            assert float(row.reward) == pytest.approx(total, abs=1e-5)
            assert float(row.discount) == pytest.approx(discount, abs=1e-6)
            assert float(row.dt) == pytest.approx(seconds, abs=1e-6)
            assert float(row.next_obs) == float(obs[at, path]) + 0.5


def test_a_few_nodes_integrate_without_bias() -> None:
    steps, paths = 10, 20_000
    values = torch.linspace(0.0, 1.0, steps) ** 2
    obs = values.view(-1, 1, 1).expand(steps, paths, 1)
    flat = torch.full((steps, paths), 0.01)
    batch = Transitions(obs, obs, flat, torch.full_like(flat, 0.99), obs, flat)
    found = [
        windows(batch, steps, stride=steps, nodes=n, discount_rate=0.0, generator=generator()).flatten()
        for n in (steps, 3)
    ]
    integrals = [node_integral(rows, rows.extras["node_obs"].squeeze(-1)) for rows in found]
    exact = float((0.01 * 0.99 ** torch.arange(steps) * values).sum())
    assert integrals[0].tolist() == pytest.approx([exact] * paths, rel=1e-5)
    assert float(integrals[1].mean()) == pytest.approx(exact, abs=4.0 * float(integrals[1].std()) / paths**0.5)
    assert float(integrals[1].std()) > 0.0


def test_the_squashed_density_is_a_density_and_the_cloud_averages_over_it() -> None:
    actor = SquashedGaussian(Mlp(1, (8,), 2, generator=generator()), 1, -1.0, 3.0, points=20)
    obs = torch.randn(5, 1, generator=generator())
    z = torch.linspace(-12.0, 12.0, 40_001)
    mean, scale = actor.law(obs)
    action = actor.box(z)
    normal = torch.exp(-0.5 * ((z - mean) / scale) ** 2) / (scale * math.sqrt(2.0 * math.pi))
    cloud = actor.cloud(obs)
    for function in (lambda a: torch.ones_like(a), lambda a: a, lambda a: torch.cos(a)):
        exact = torch.trapezoid(normal * function(action), z, dim=-1)
        assert torch.allclose(function(cloud.action.squeeze(-1)) @ cloud.weight, exact, atol=2e-4)
    inner = actor.box.log_slope(z)  # density of the action = density of z / slope
    entropy = -torch.trapezoid(normal * (torch.log(normal + 1e-30) - inner), z, dim=-1)
    assert torch.allclose(-(cloud.log_density @ cloud.weight), entropy, atol=1e-3)


@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_a_normalised_q_satisfies_the_consistency_condition(temperature: float) -> None:
    network = Mlp(2, (16,), 1, generator=generator())
    q = NormalisedQ(nn.Sequential(network, nn.Flatten(-2)))
    obs = torch.randn(7, 1, generator=generator())
    if temperature:
        actor: nn.Module = SquashedGaussian(Mlp(1, (8,), 2, generator=generator()), 1, -2.0, 2.0, points=20)
        many = SquashedGaussian(actor.network, 1, -2.0, 2.0, points=40).cloud(obs)  # type: ignore[arg-type]
    else:
        actor = SquashedFeedback(Mlp(1, (8,), 1, generator=generator()), 1, -2.0, 2.0, exploration=1.0)
        many = actor.cloud(obs)  # type: ignore[operator]
    found = torch.stack(
        [q(obs, many.action[:, j], actor.cloud(obs), temperature) for j in range(many.action.shape[1])],  # type: ignore[operator]
        dim=1,
    )
    assert float(((found - temperature * many.log_density) @ many.weight).detach().abs().max()) < 1e-4


class LinearActor(nn.Module):
    """u = -0.4 x + noise."""

    noise_dim = 1

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(-GAIN, dtype=torch.float64))

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        return self.gain * obs if noise is None else self.gain * obs + noise

    def cloud(self, obs: Tensor) -> Cloud:
        action = self.act(obs, None).unsqueeze(-2)
        return Cloud(action, action.new_zeros(action.shape[:-1]), action.new_ones(1))


def replay_agent(actor_rate: float) -> tuple[DeepActorCritic, ReplaySource]:
    """J on x^2 and A on (x u, u^2), rows of a correlated behaviour."""
    value = LinearInFeatures(lambda x: x**2, 1, dtype=torch.float64)
    features = lambda z: torch.cat([z[..., :1] * z[..., 1:], z[..., 1:] ** 2], dim=-1)  # noqa: E731
    advantage = LinearInFeatures(features, 2, dtype=torch.float64)
    config = DeepConfig(0.0, critic_rate=0.4, actor_rate=actor_rate, decay_time=8.0, target_time=0.1)
    agent = DeepActorCritic(value, NormalisedQ(advantage), LinearActor(), config)
    feed = CorrelatedSource(Linear(0.01), 64, 50, seed=0, noise_dim=1, correlation_time=0.2)
    cut = WindowSource(feed, 10, stride=5, nodes=4, discount_rate=BETA, generator=generator(1))
    return agent, ReplaySource(ReplayBuffer(20_000), 512, generator=generator(2), feed=cut, draws_per_feed=10)


def test_replay_learns_the_value_and_the_q_of_its_policy_off_policy() -> None:
    agent, source = replay_agent(actor_rate=1e-9)
    agent.learn(source, 700)
    assert float(agent.value.theta) == pytest.approx(-P, rel=0.04)  # type: ignore[arg-type]
    cross, square = agent.q.advantage.theta.tolist()  # type: ignore[union-attr, operator]
    assert square == pytest.approx(-1.0, rel=0.06)
    assert cross == pytest.approx(-2.0 * P, rel=0.06)


def test_replay_finds_the_optimal_gain() -> None:
    agent, source = replay_agent(actor_rate=0.4)
    agent.learn(source, 1200)
    best = 0.5 * (math.sqrt((2.0 + BETA) ** 2 + 4.0) - (2.0 + BETA))  # p of -beta p = -1 + 2 p + p^2, u = -p x
    assert float(agent.actor.gain) == pytest.approx(-best, rel=0.05)  # type: ignore[arg-type]


def test_a_trace_in_seconds_does_not_change_with_the_step() -> None:
    """A constant increment per second, summed with a trace of 0.3 s and discount rate 1/2: 1 / (1/0.3 + 1/2)."""
    for dt, tolerance in ((0.01, 0.02), (0.001, 0.002)):
        shape = (round(6.0 / dt), 1)
        seconds = torch.full(shape, dt, dtype=torch.float64)
        found = traced_sum(seconds, torch.exp(-0.5 * seconds), seconds, seconds < 0, 0.3)
        assert float(found[0]) == pytest.approx(1.0 / (1.0 / 0.3 + 0.5), rel=tolerance)


@pytest.mark.parametrize("dt", [0.05, 0.01])
def test_cppo_finds_the_optimal_gain_at_any_step(dt: float) -> None:
    env = ScalarLqr(replace(LQ_B, dt=dt, horizon=5.0))
    value = LinearInFeatures(lambda x: torch.cat([x**2, torch.ones_like(x)], dim=-1), 2)
    policy = Gaussian(LinearInFeatures(lambda x: x, 1, 1), 1, log_variance=-1.0)
    agent = Cppo(
        value, policy, CppoConfig(0.1, policy_trace=0.02, distance=0.03, epochs=4, value_rate=0.1, policy_rate=0.01)
    )
    agent.learn(RolloutSource(env, 256, round(0.5 / dt), seed=0), 120)
    assert float(policy.mean.theta) == pytest.approx(-1.28, abs=0.15)


def test_cppo_does_not_outrun_its_batch_where_the_penalty_is_too_small() -> None:
    value = LinearInFeatures(lambda x: torch.cat([x**2, torch.ones_like(x)], dim=-1), 2)
    policy = Gaussian(LinearInFeatures(lambda x: x, 1, 1), 1, log_variance=-1.0)
    agent = Cppo(value, policy, CppoConfig(0.0, distance=0.03, epochs=100, policy_rate=0.002))
    agent.penalty.fill_(1e-4)  # nothing holds the policy back; without a limit it moves by 0.38
    batch = RolloutSource(ScalarLqr(replace(LQ_B, dt=0.05, horizon=5.0)), 256, 20, seed=0).next(agent)
    assert 0.03 < float(agent.update(batch)["train/distance"]) < 0.06
