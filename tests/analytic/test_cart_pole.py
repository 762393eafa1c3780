"""The cart-pole against its energy, its linearisation and the linear-quadratic optimum near upright."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from rlcore.envs.control.cart_pole import CART_POLE_BALANCE, CART_POLE_SWING_UP, CartPole, CartPoleConfig
from rlcore.errors import ConfigError
from rlcore.simulation import EnvState, Feedback, UniformPolicy, begin, check_environment, rollout

FREE = replace(CART_POLE_SWING_UP, rail=math.inf, horizon=20.0)
IDLE = Feedback(lambda obs: obs.new_zeros(len(obs), 1))


def double(config: CartPoleConfig) -> CartPole:
    return CartPole(config, dtype=torch.float64)


def at(x: list[list[float]]) -> EnvState:
    return EnvState(torch.zeros(len(x), dtype=torch.float64), torch.tensor(x, dtype=torch.float64))


def end(config: CartPoleConfig, x: list[list[float]], seconds: float, policy: Feedback = IDLE) -> torch.Tensor:
    """States after so many seconds."""
    env = double(config)
    start = begin(env, len(x), seed=0)._replace(env=at(x))
    _, last = rollout(env, policy, start, round(seconds / config.dt))
    return last.env.x


@pytest.mark.parametrize("config", [CART_POLE_BALANCE, CART_POLE_SWING_UP])
def test_honours_the_contract(config: CartPoleConfig) -> None:
    env = CartPole(config)
    check_environment(env)
    path, _ = rollout(env, UniformPolicy(-10.0, 10.0, 1), begin(env, 64, seed=0), 200)
    assert bool(torch.isfinite(path.obs).all())
    assert path.obs[..., 2:4].norm(dim=-1).sub(1).abs().max() < 1e-5


@pytest.mark.parametrize("rail", [math.inf, 0.5])
def test_energy_is_conserved_to_fourth_order(rail: float) -> None:
    x = [[0.0, 1.0, 2.5, 1.0], [0.3, -1.0, -1.0, 3.0]]
    drifts = []
    for dt in (0.01, 0.005):
        config = replace(FREE, dt=dt, rail=rail, spring=20.0, substeps=1)
        energy = config.energy(at(x).x)
        drifts.append(float((config.energy(end(config, x, 4.0)) - energy).abs().max()))
    assert drifts[1] < (1e-6 if math.isinf(rail) else 1e-4), "where a spring begins, a kink costs order"
    if math.isinf(rail):
        assert math.log2(drifts[0] / drifts[1]) > 3.5


def test_momentum_grows_by_the_impulse() -> None:
    """(M + m) x' + m l theta' cos(theta) changes by u t, wherever the pole is."""
    x = torch.tensor([[0.0, 0.3, 2.0, -1.0], [0.1, 0.0, -0.5, 2.0]], dtype=torch.float64)

    def momentum(x: torch.Tensor) -> torch.Tensor:
        return 1.1 * x[:, 1] + 0.05 * x[:, 3] * torch.cos(x[:, 2])

    push = Feedback(lambda obs: obs.new_full((len(obs), 1), 3.0))
    after = end(FREE, x.tolist(), 1.0, push)
    assert (momentum(after) - momentum(x)).tolist() == pytest.approx([3.0, 3.0], abs=1e-6)


def test_small_swings_have_the_period_of_the_linear_motion() -> None:
    """Hanging, theta = pi + eps: eps'' = -w^2 eps with w^2 = g / (l (4/3 - m / (M + m)))."""
    omega = math.sqrt(9.81 / (0.5 * (4.0 / 3.0 - 0.1 / 1.1)))
    config = replace(FREE, dt=math.pi / omega / 50)
    angle = end(config, [[0.0, 0.0, math.pi - 1e-3, 0.0]], math.pi / omega)[0, 2].item()
    assert angle == pytest.approx(-(math.pi - 1e-3), abs=1e-6), "half a period later on the other side"


def test_linearisation_is_the_derivative_of_the_drift() -> None:
    env = double(CART_POLE_BALANCE)
    zero = torch.zeros(1, 4, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)

    def drift(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        return env.drift(torch.zeros(1), x, u)[0]

    by_state, by_action = torch.autograd.functional.jacobian(drift, zero)
    problem = env.config.linearised()
    assert torch.allclose(by_state[:, 0], torch.as_tensor(problem.A), atol=1e-12)
    assert torch.allclose(by_action[:, 0], torch.as_tensor(problem.B), atol=1e-12)


def test_local_optimum_is_attained_near_upright() -> None:
    """The linear feedback costs the linear-quadratic value, to second order in the state and in dt."""
    config = replace(CART_POLE_BALANCE, dt=0.005, substeps=1, horizon=60.0)
    env = double(config)
    x = [[0.02, 0.0, 0.01, 0.0], [0.0, 0.03, -0.01, 0.02]]
    start = begin(env, 2, seed=0)._replace(env=at(x))
    path, last = rollout(env, env.local_policy(), start, 8000)
    weight = torch.exp(-config.discount_rate * (path.t[:-1] + 0.5 * config.dt)).unsqueeze(1)
    value = env.local_value(at(x).x)
    assert (weight * path.reward).sum(0).tolist() == pytest.approx(value.tolist(), rel=5e-3)
    assert float(last.env.x.norm()) < 1e-4


def test_force_noise_moves_the_cart() -> None:
    env = CartPole(replace(CART_POLE_BALANCE, force_noise=1.0))
    check_environment(env)
    path, _ = rollout(env, IDLE, begin(env, 4096, seed=0), 1)
    spread = (path.obs[1, :, 1] - path.obs[0, :, 1]).var().item()
    cart, _ = env.config.response(torch.zeros(1))
    assert spread == pytest.approx(0.02 * float(cart) ** 2, rel=0.1)


@pytest.mark.parametrize(("name", "value"), [("length", 0.0), ("rail", -1.0), ("max_force", -1.0), ("dt", 0.0)])
def test_bad_settings_are_named(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        CartPole(replace(CART_POLE_BALANCE, **{name: value}))
