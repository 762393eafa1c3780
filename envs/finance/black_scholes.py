"""Geometric Brownian motion with a payoff at the end: policy evaluation whose answer is the Black-Scholes formula."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.checks import check_not_negative, check_numbers, check_positive
from rlcore.errors import ConfigError
from rlcore.simulation.environment import ControlledDiffusion, ControlSpec, EnvState
from rlcore.simulation.integrators import EulerMaruyama
from rlcore.timegrid import steps_in


@dataclass(frozen=True)
class BlackScholesConfig:
    """A European call on one stock under the pricing measure; time in years."""

    growth: float = 0.05
    """mu, mean return of the stock [1/year]; the interest rate under the pricing measure."""
    volatility: float = 0.2
    """sigma [1/sqrt(year)]."""
    discount_rate: float = 0.05
    """beta [1/year]."""
    strike: float | None = 1.0
    """K of the payoff max(X_T - K, 0); None pays X_T itself."""
    initial_low: float = 0.8
    """Least price at the start, which is uniform between both ends."""
    initial_high: float = 1.2
    """Greatest price at the start; the same as the least for a fixed one."""
    horizon: float = 1.0
    """T [year]; the problem ends there by its own nature."""
    dt: float = 0.01
    """Time between observations [year]."""

    def __post_init__(self) -> None:
        check_numbers("growth", self.growth)
        check_positive("volatility", self.volatility, "1/sqrt(year)")
        check_not_negative("discount_rate", self.discount_rate, "1/year")
        if self.strike is not None:
            check_positive("strike", self.strike)
        check_positive("initial_low", self.initial_low)
        if not self.initial_low <= self.initial_high < math.inf:
            raise ConfigError(f"need initial_low <= initial_high, got {self.initial_low} and {self.initial_high}")
        steps_in(self.horizon, self.dt)


GROWTH = BlackScholesConfig(
    growth=0.1, volatility=0.3, discount_rate=0.0, strike=None, initial_low=1.0, initial_high=1.0
)
"""The value is x exp(mu (T - t)): the problem on which least squares of the TD error fail most visibly."""


class BlackScholes(ControlledDiffusion):
    """A stock that nobody controls; the task is to evaluate what is paid at the end.

    ## Dynamics
    dX = mu X dt + sigma X dW, carried over a step exactly in law.

    ## Observation and action
    | num | observation    | low | high | unit  |     | num | action  | low | high | unit |
    |-----|----------------|-----|------|-------|-----|-----|---------|-----|------|------|
    | 0   | price X        | 0   | inf  | money |     | 0   | ignored | -1  | 1    | none |
    | 1   | remaining time | 0   | T    | year  |     |     |         |     |      |      |

    ## Reward
    None on the way; max(X_T - K, 0) at the end, discounted at beta.

    ## Start and end
    X_0 is uniform in [0.8, 1.2]. Terminates at T = 1 year.

    ## Closed form
    `value`(t, x) = x exp((mu - beta) s) Phi(d_1) - K exp(-beta s) Phi(d_2) with s = T - t; 0.1045058 at (0, 1).
    `delta` is its derivative in x.

    Source: Black and Scholes, Journal of Political Economy 81, 1973.
    """

    def __init__(
        self,
        config: BlackScholesConfig = BlackScholesConfig(),
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        self.config = config
        spec = ControlSpec(
            "rlcore/BlackScholes-v0",
            state_dim=1,
            action_dim=1,
            noise_dim=1,
            dt=config.dt,
            horizon=config.horizon,
            discount_rate=config.discount_rate,
            observation_dim=2,
        )
        super().__init__(spec, EulerMaruyama(), dtype=dtype, device=device)

    def initial_state(self, noise: Tensor) -> EnvState:
        low, high = self.config.initial_low, self.config.initial_high
        t = torch.zeros(noise.shape[0], dtype=torch.float64, device=noise.device)
        return EnvState(t, low + (high - low) * torch.special.ndtr(noise))

    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # [B], [B, 1], [B, 1] -> [B, 1]
        return self.config.growth * x

    def diffusion(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # -> [B, 1, 1]
        return (self.config.volatility * x).unsqueeze(-1)

    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # -> [B]
        return torch.zeros_like(x[:, 0])

    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        """Exact in law: the logarithm of the price moves by (mu - sigma^2 / 2) dt + sigma sqrt(dt) z."""
        c, dt = self.config, self.spec.dt
        moved = (c.growth - 0.5 * c.volatility**2) * dt + c.volatility * math.sqrt(dt) * noise
        return EnvState(state.t + dt, state.x * torch.exp(moved)), torch.zeros_like(state.x[:, 0])

    def observe(self, state: EnvState) -> Tensor:  # -> [B, 2]
        remaining = (self.config.horizon - state.t).clamp(min=0.0).to(state.x.dtype)
        return torch.cat([state.x, remaining.unsqueeze(1)], dim=1)

    def terminated(self, state: EnvState) -> Tensor:  # -> bool [B]
        return state.t > self.config.horizon - 0.5 * self.spec.dt

    def terminal_reward(self, state: EnvState) -> Tensor:  # -> [B]
        return self.payoff(state.x[:, 0])

    def payoff(self, x: Tensor) -> Tensor:
        """h(x)."""
        return x if self.config.strike is None else (x - self.config.strike).clamp(min=0.0)

    def value(self, t: Tensor, x: Tensor) -> Tensor:  # [*], [*] -> [*]
        """The exact value of the payoff, seen from time t and price x."""
        return formula(x, self.config.horizon - t, self.config, self.config.volatility)

    def delta(self, t: Tensor, x: Tensor) -> Tensor:  # [*], [*] -> [*]
        """Its derivative in x, the number of stocks that hedges it."""
        c, remaining = self.config, self.config.horizon - t
        scale = torch.exp((c.growth - c.discount_rate) * remaining)
        if c.strike is None:
            return scale * torch.ones_like(x)
        hedge: Tensor = torch.special.ndtr(first_argument(x, remaining, c.strike, c.growth, c.volatility))
        return scale * hedge


def first_argument(x: Tensor, remaining: Tensor, strike: float, growth: float, volatility: float) -> Tensor:
    """d_1 = (log(x / K) + (mu + sigma^2 / 2) s) / (sigma sqrt s)."""
    spread = volatility * torch.sqrt(remaining.clamp(min=1e-12))
    return (torch.log(x / strike) + growth * remaining) / spread + 0.5 * spread


def formula(x: Tensor, remaining: Tensor, config: BlackScholesConfig, volatility: float) -> Tensor:
    """The Black-Scholes formula at any volatility, the other figures being those of `config`."""
    grown = x * torch.exp((config.growth - config.discount_rate) * remaining)
    if config.strike is None:
        return grown
    upper = first_argument(x, remaining, config.strike, config.growth, volatility)
    lower = upper - volatility * torch.sqrt(remaining.clamp(min=1e-12))
    value: Tensor = grown * torch.special.ndtr(upper)
    paid: Tensor = config.strike * torch.exp(-config.discount_rate * remaining) * torch.special.ndtr(lower)
    return value - paid
