"""The pendulum against its HJB equation, its energy and its bounds."""

from __future__ import annotations

import math

import pytest
import torch

from rlcore.envs.control.pendulum import Pendulum, PendulumConfig
from rlcore.envs.control.pendulum_hjb import solve
from rlcore.envs.control.pendulum_model import wrap
from rlcore.errors import ConfigError
from rlcore.simulation import EnvState, Feedback, UniformPolicy, begin, check_environment, rollout

ANGLES = torch.tensor([math.pi, 0.5 * math.pi, 1.0, 0.0], dtype=torch.float64)
REST = torch.zeros_like(ANGLES)


def at(env: Pendulum, angles: torch.Tensor, speeds: torch.Tensor) -> EnvState:
    return EnvState(torch.zeros(len(angles), dtype=torch.float64), torch.stack([angles, speeds], dim=1).to(env.dtype))


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (121, [6.684, 3.722, 3.216, 0.0]),
        pytest.param(241, [6.723, 3.727, 3.222, 0.0], marks=pytest.mark.slow),
        pytest.param(481, [6.751, 3.728, 3.223, 0.0], marks=pytest.mark.slow),
    ],
)
def test_hjb_values(cells: int, expected: list[float]) -> None:
    assert solve(cells=cells).value(ANGLES, REST).tolist() == pytest.approx(expected, abs=0.002)


def test_optimal_value_is_a_reward_and_symmetric() -> None:
    env = Pendulum()
    angle, speed = torch.tensor([2.0, -2.0, 2.0 + 2.0 * math.pi]), torch.tensor([1.0, -1.0, 1.0])
    value = env.optimal_value(angle, speed, cells=121)
    assert value.dtype == torch.float32
    assert bool((value < 0).all())
    assert value.tolist() == pytest.approx([float(value[0])] * 3, abs=1e-4)


@pytest.mark.parametrize(("dt", "noise"), [(0.05, 0.0), (0.01, 0.0), (0.01, 1e-6)])
def test_greedy_policy_attains_the_value(dt: float, noise: float) -> None:
    """The feedback that is greedy for V earns V within 1.5 %; what a step earns is discounted to its middle."""
    env = Pendulum(PendulumConfig(dt=dt, torque_noise=noise), dtype=torch.float64)
    truth = Pendulum(dtype=torch.float64)
    start = begin(env, 4, seed=0)
    start = start._replace(env=at(env, ANGLES, REST + torch.tensor([0.0, 0.0, 1.0, 0.5])))
    path, _ = rollout(env, truth.optimal_policy(), start, round(10.0 / dt))
    earned = (torch.exp(-path.t[:-1] - 0.5 * dt).unsqueeze(1) * path.reward).sum(0)
    expected = truth.optimal_value(start.env.x[:, 0], start.env.x[:, 1])
    assert earned.tolist() == pytest.approx(expected.tolist(), rel=0.015, abs=2e-3)
    assert float(path.obs[-1, :, 0].min()) > 0.99, "every path ends upright"


def test_energy_is_conserved_without_torque() -> None:
    env = Pendulum(PendulumConfig(dt=0.05), dtype=torch.float64)
    start = begin(env, 3, seed=0)
    start = start._replace(env=at(env, torch.tensor([3.0, 2.0, 1.2]), torch.tensor([0.5, -1.0, 0.3])))
    path, _ = rollout(env, Feedback(lambda obs: obs.new_zeros(len(obs), 1)), start, 200)
    energy = 0.5 * path.obs[..., 2] ** 2 + 15.0 * path.obs[..., 0]
    assert float((energy - energy[0]).abs().max()) < 2e-3


def test_integration_is_of_order_four() -> None:
    def end(dt: float) -> torch.Tensor:
        env = Pendulum(PendulumConfig(dt=dt, substeps=1), dtype=torch.float64)
        start = begin(env, 1, seed=0)._replace(env=at(env, torch.tensor([2.5]), torch.tensor([0.0])))
        _, last = rollout(env, Feedback(lambda obs: obs.new_ones(len(obs), 1)), start, round(1.6 / dt))
        return last.env.x[0]

    truth = end(0.0025)
    errors = [float((end(dt) - truth).norm()) for dt in (0.08, 0.04, 0.02)]
    slopes = [math.log2(errors[0] / errors[1]), math.log2(errors[1] / errors[2])]
    assert slopes == pytest.approx([4.0, 4.0], abs=0.4)


def test_angle_and_speed_stay_in_range() -> None:
    env = Pendulum()
    path, last = rollout(env, Feedback(lambda obs: 50.0 * torch.sign(obs[:, 2:])), begin(env, 64, seed=1), 200)
    assert float(path.obs[..., 2].abs().max()) == 8.0
    assert float(last.env.x[:, 0].abs().max()) <= math.pi + 1e-6
    assert float(path.reward.min()) >= -0.05 * (math.pi**2 + 6.4 + 0.004) - 1e-5


def test_wrap_keeps_the_direction() -> None:
    angle = torch.linspace(-20.0, 20.0, 401, dtype=torch.float64)
    wrapped = wrap(angle)
    assert float(wrapped.abs().max()) <= math.pi + 1e-12
    torch.testing.assert_close(torch.stack([wrapped.cos(), wrapped.sin()]), torch.stack([angle.cos(), angle.sin()]))


def test_torque_saturates() -> None:
    env, state = Pendulum(), at(Pendulum(), torch.tensor([1.0, 1.0]), torch.zeros(2))
    after, reward = env.transition(state, torch.tensor([[2.0], [9.0]]), torch.zeros(2, 0))
    assert torch.equal(after.x[0], after.x[1])
    assert torch.equal(reward[0], reward[1])


def test_crossing_the_bottom_costs_no_jump() -> None:
    """A step across theta = pi earns what its mirror image earns."""
    env = Pendulum(dtype=torch.float64)
    state = at(env, torch.tensor([3.1, -3.1]), torch.tensor([4.0, -4.0]))
    after, reward = env.transition(state, torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2, 0))
    assert float(after.x[0, 0]) < 0.0 < float(after.x[1, 0])
    assert float(reward[0]) == pytest.approx(float(reward[1]), abs=1e-12)


def test_start_is_uniform() -> None:
    x = begin(Pendulum(), 20_000, seed=3).env.x
    assert x.mean(0).tolist() == pytest.approx([0.0, 0.0], abs=0.06)
    assert x.var(0).tolist() == pytest.approx([math.pi**2 / 3.0, 1.0 / 3.0], rel=0.03)


def test_torque_noise_spreads_the_speed() -> None:
    env = Pendulum(PendulumConfig(torque_noise=0.1, dt=0.001))
    check_environment(env)
    start = begin(env, 20_000, seed=4)
    start = start._replace(env=at(env, torch.zeros(20_000), torch.zeros(20_000)))
    _, last = rollout(env, UniformPolicy(-1e-6, 1e-6, 1), start, 10)
    assert float(last.env.x[:, 1].std()) == pytest.approx(3.0 * 0.1 * math.sqrt(0.01), rel=0.02)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"dt": -0.1}, "dt"),
        ({"mass": 0.0}, "mass"),
        ({"torque_noise": math.nan}, "torque_noise"),
        ({"horizon": 0.01}, "horizon"),
        ({"substeps": 0}, "substeps"),
    ],
)
def test_bad_settings_are_named(bad: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Pendulum(PendulumConfig(**bad))  # type: ignore[arg-type]


def test_no_truth_with_noise_or_without_discount() -> None:
    with pytest.raises(ConfigError, match="torque_noise"):
        solve(PendulumConfig(torque_noise=0.1))
    with pytest.raises(ConfigError, match="discount_rate"):
        solve(PendulumConfig(discount_rate=0.0))
