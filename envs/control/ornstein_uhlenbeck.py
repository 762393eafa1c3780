"""A mean-reverting process whose value is known: the test bed of policy evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.checks import check_positive
from rlcore.simulation import ControlledDiffusion, ControlSpec, EnvState, ExactLinear


@dataclass(frozen=True)
class OrnsteinUhlenbeckConfig:
    """Settings; x has no unit."""

    kappa: float = 1.0
    """Rate of return to 0 [1/s]."""
    sigma: float = 0.8
    """Noise [1/sqrt(s)]."""
    discount_rate: float = 0.5
    """beta [1/s]."""
    dt: float = 0.01
    """Time between observations [s]."""
    horizon: float = 10.0
    """Length of an episode [s]; reaching it truncates. It may be inf."""


class OrnsteinUhlenbeck(ControlledDiffusion):
    """A process that returns to 0 and is never controlled; the task is to evaluate it.

    ## Dynamics
    dX = -kappa X dt + sigma dW, carried over a step exactly in law.

    ## Observation and action
    | num | observation | low  | high | unit |     | num | action  | low | high | unit |
    |-----|-------------|------|------|------|-----|-----|---------|-----|------|------|
    | 0   | X           | -inf | inf  | none |     | 0   | ignored | -1  | 1    | none |

    ## Reward
    r = X^2 per second, paid at the left end of each step.

    ## Start and end
    X_0 is drawn from the stationary law N(0, sigma^2 / (2 kappa)). An episode never terminates; `horizon` truncates it.

    ## Closed form
    V(x) = theta_1 x^2 + theta_0, theta_1 = 1 / (beta + 2 kappa), theta_0 = sigma^2 / (beta (beta + 2 kappa)): `theta`.
    What least-squares temporal differences find at step dt with features (x^2, 1): `clstd_fixed_point`.

    Source: Jia and Zhou, JMLR 23(154), 2022, for policy evaluation of diffusions; the formulas are elementary.
    """

    def __init__(
        self,
        config: OrnsteinUhlenbeckConfig = OrnsteinUhlenbeckConfig(),
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        check_positive("kappa", config.kappa, "1/s")
        check_positive("sigma", config.sigma, "1/sqrt(s)")
        check_positive("discount_rate", config.discount_rate, "1/s")
        self.config = config
        spec = ControlSpec(
            "rlcore/OrnsteinUhlenbeck-v0",
            state_dim=1,
            action_dim=1,
            noise_dim=1,
            dt=config.dt,
            horizon=config.horizon,
            discount_rate=config.discount_rate,
        )
        one = torch.ones(1, 1, dtype=torch.float64)
        exact = ExactLinear(a=-config.kappa * one, b=0.0 * one, c=0.0 * one[0], sigma=config.sigma * one)
        super().__init__(spec, exact, dtype=dtype, device=device)

    def initial_state(self, noise: Tensor) -> EnvState:
        t = torch.zeros(noise.shape[0], dtype=torch.float64, device=noise.device)
        return EnvState(t, math.sqrt(self.stationary_variance()) * noise)

    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # [B], [B, 1], [B, 1] -> [B, 1]
        return -self.config.kappa * x

    def diffusion(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # -> [B, 1, 1]
        return x.new_full((x.shape[0], 1, 1), self.config.sigma)

    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # -> [B]
        return x[:, 0] ** 2

    def stationary_variance(self) -> float:
        """sigma^2 / (2 kappa)."""
        return self.config.sigma**2 / (2.0 * self.config.kappa)

    def theta(self) -> tuple[float, float]:
        """(theta_1, theta_0) of the exact value theta_1 x^2 + theta_0."""
        beta, both = self.config.discount_rate, self.config.discount_rate + 2.0 * self.config.kappa
        return 1.0 / both, self.config.sigma**2 / (beta * both)

    def value(self, x: Tensor) -> Tensor:  # [B, 1] -> [B]
        """The exact value."""
        theta_1, theta_0 = self.theta()
        return theta_1 * x[:, 0] ** 2 + theta_0

    def clstd_fixed_point(self, dt: float) -> tuple[float, float]:
        """(theta_1, theta_0) that solve E[phi (phi' - phi) theta + phi (r - beta phi theta) dt] = 0 for phi = (x^2, 1).

        The increment is taken at the left end; the error is 2 kappa^2 dt / (beta + 2 kappa)^2 to first order.
        """
        check_positive("dt", dt, "s")
        beta = self.config.discount_rate
        theta_1 = dt / (beta * dt - math.expm1(-2.0 * self.config.kappa * dt))
        return theta_1, self.stationary_variance() * (1.0 - beta * theta_1) / beta
