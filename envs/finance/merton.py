"""Merton's investor with constant relative risk aversion: terminal wealth, or consumption on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.checks import check_numbers, check_positive
from rlcore.errors import ConfigError
from rlcore.simulation.environment import ControlSpec, Environment, EnvState
from rlcore.simulation.policy import Feedback
from rlcore.timegrid import steps_in


@dataclass(frozen=True)
class Market:
    """One stock, one bank account, one investor; time in years."""

    stock_return: float = 0.08
    """mu [1/year]."""
    interest_rate: float = 0.02
    """r [1/year]."""
    volatility: float = 0.2
    """sigma [1/sqrt(year)]."""
    risk_aversion: float = 2.0
    """p of the utility x^(1-p) / (1-p), positive and not 1."""

    def __post_init__(self) -> None:
        check_numbers("stock_return, interest_rate", self.stock_return, self.interest_rate)
        check_positive("volatility", self.volatility, "1/sqrt(year)")
        check_positive("risk_aversion", self.risk_aversion)
        if self.risk_aversion == 1.0:
            raise ConfigError("risk_aversion must not be 1, got 1.0; take 1.001 for (nearly) logarithmic utility")

    def utility(self, x: Tensor) -> Tensor:
        """x^(1-p) / (1-p)."""
        return x ** (1.0 - self.risk_aversion) / (1.0 - self.risk_aversion)

    def best_fraction(self) -> float:
        """(mu - r) / (p sigma^2), the share of wealth in the stock."""
        return (self.stock_return - self.interest_rate) / (self.risk_aversion * self.volatility**2)

    def growth(self, fraction: float) -> float:
        """r + pi (mu - r) - p sigma^2 pi^2 / 2: utility grows like exp((1-p) growth t) at a constant fraction pi."""
        excess = self.stock_return - self.interest_rate
        return self.interest_rate + fraction * excess - 0.5 * self.risk_aversion * (self.volatility * fraction) ** 2

    def wealth_after(
        self, x: Tensor, fraction: Tensor, consumption: Tensor | float, dt: float, noise: Tensor
    ) -> Tensor:
        """Wealth after dt at a held fraction and rate of consumption per wealth, exact in law."""
        excess = self.stock_return - self.interest_rate
        mean = self.interest_rate + fraction * excess - consumption - 0.5 * (self.volatility * fraction) ** 2
        return x * torch.exp(mean * dt + self.volatility * math.sqrt(dt) * fraction * noise)


@dataclass(frozen=True)
class MertonConfig:
    """Settings of `Merton`."""

    market: Market = Market()
    """Prices and preferences."""
    initial_wealth: float = 1.0
    """x_0."""
    horizon: float = 1.0
    """T [year]; the problem ends there by its own nature."""
    dt: float = 0.02
    """Rebalancing interval [year]; the fraction is held over it."""

    def __post_init__(self) -> None:
        check_positive("initial_wealth", self.initial_wealth)
        steps_in(self.horizon, self.dt)


class Merton(Environment):
    """Choose the share of wealth in a stock, for the utility of the wealth at the end.

    ## Dynamics
    dx = x [(r + pi (mu - r)) dt + pi sigma dW], carried over a step exactly in law.

    ## Observation and action
    | num | observation    | low | high | unit  |     | num | action            | low | high | unit |
    |-----|----------------|-----|------|-------|-----|-----|-------------------|-----|------|------|
    | 0   | wealth x       | 0   | inf  | money |     | 0   | share in stock pi | -3  | 3    | none |
    | 1   | remaining time | 0   | T    | year  |     |     |                   |     |      |      |

    The box of actions is declared, not enforced.

    ## Reward
    None on the way; x^(1-p) / (1-p) at the end. Not discounted.

    ## Start and end
    x = 1. Terminates at T = 1 year.

    ## Closed form
    The best share is (mu - r) / (p sigma^2) = 0.75 (`optimal_policy`), whatever wealth and time, and the value
    `value`(t, x) = x^(1-p) / (1-p) exp((1-p) (r + (mu - r)^2 / (2 p sigma^2)) (T - t)) = -0.958390 at (0, 1);
    `value` takes any constant share.

    Source: Merton, Review of Economics and Statistics 51, 1969.
    """

    def __init__(
        self,
        config: MertonConfig = MertonConfig(),
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        spec = ControlSpec(
            "rlcore/Merton-v0",
            state_dim=1,
            action_dim=1,
            noise_dim=1,
            dt=config.dt,
            horizon=config.horizon,
            action_low=-3.0,
            action_high=3.0,
            observation_dim=2,
        )
        super().__init__(spec, dtype=dtype, device=device)
        self.config, self.market = config, config.market

    def initial_state(self, noise: Tensor) -> EnvState:
        t = torch.zeros(noise.shape[0], dtype=torch.float64, device=noise.device)
        return EnvState(t, torch.full_like(noise, self.config.initial_wealth))

    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        after = self.market.wealth_after(state.x, action, 0.0, self.spec.dt, noise)
        return EnvState(state.t + self.spec.dt, after), torch.zeros_like(state.x[:, 0])

    def observe(self, state: EnvState) -> Tensor:  # -> [B, 2]
        remaining = (self.config.horizon - state.t).clamp(min=0.0).to(state.x.dtype)
        return torch.cat([state.x, remaining.unsqueeze(1)], dim=1)

    def terminated(self, state: EnvState) -> Tensor:  # -> bool [B]
        return state.t > self.config.horizon - 0.5 * self.spec.dt

    def terminal_reward(self, state: EnvState) -> Tensor:  # -> [B]
        return self.market.utility(state.x[:, 0])

    def optimal_policy(self) -> Feedback:
        """The constant best share."""
        return Feedback(lambda obs: torch.full_like(obs[:, :1], self.market.best_fraction()))

    def value(self, t: Tensor, x: Tensor, fraction: float | None = None) -> Tensor:  # [*], [*] -> [*]
        """Value of holding a constant share, by default the best one."""
        share = self.market.best_fraction() if fraction is None else fraction
        rate = (1.0 - self.market.risk_aversion) * self.market.growth(share)
        return self.market.utility(x) * torch.exp(rate * (self.config.horizon - t))


@dataclass(frozen=True)
class MertonConsumptionConfig:
    """Settings of `MertonConsumption`."""

    market: Market = Market()
    """Prices and preferences."""
    discount_rate: float = 0.1
    """beta [1/year]."""
    initial_wealth: float = 1.0
    """x_0."""
    horizon: float = 100.0
    """Length of an episode [year]; reaching it truncates."""
    dt: float = 0.05
    """Control interval [year]; share and consumption rate are held over it."""

    def __post_init__(self) -> None:
        check_positive("initial_wealth", self.initial_wealth)
        check_positive("discount_rate", self.discount_rate, "1/year")


class MertonConsumption(Environment):
    """Choose the share of wealth in a stock and the rate at which wealth is consumed, for ever.

    ## Dynamics
    dx = x [(r + pi (mu - r) - k) dt + pi sigma dW], carried over a step exactly in law.

    ## Observation and action
    | num | observation | low | high | unit  |     | num | action                         | low | high | unit   |
    |-----|-------------|-----|------|-------|-----|-----|--------------------------------|-----|------|--------|
    | 0   | wealth x    | 0   | inf  | money |     | 0   | share in stock pi              | -3  | 3    | none   |
    |     |             |     |      |       |     | 1   | consumption k per wealth       | -3  | 3    | 1/year |

    The box is declared, not enforced; consumption below 0.0001 counts as that.

    ## Reward
    (k x)^(1-p) / (1-p) per year, at the left end of each step, discounted at beta.

    ## Start and end
    x = 1. Never terminates; `horizon` truncates.

    ## Closed form
    pi = (mu - r) / (p sigma^2) and k = K = (beta - (1-p) (r + (mu - r)^2 / (2 p sigma^2))) / p = 0.07125
    (`optimal_policy`), V = K^-p x^(1-p) / (1-p), -196.9837 at x = 1; `value` takes any constant pair. It is infinite
    where the best K is not positive, which is refused.

    Source: Merton, Review of Economics and Statistics 51, 1969.
    """

    def __init__(
        self,
        config: MertonConsumptionConfig = MertonConsumptionConfig(),
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        self.config, self.market = config, config.market
        if self.best_consumption() <= 0.0:
            raise ConfigError(
                f"the value is infinite: the best consumption rate would be {self.best_consumption():.4g} per year; "
                "raise discount_rate or risk_aversion"
            )
        spec = ControlSpec(
            "rlcore/MertonConsumption-v0",
            state_dim=1,
            action_dim=2,
            noise_dim=1,
            dt=config.dt,
            horizon=config.horizon,
            discount_rate=config.discount_rate,
            action_low=-3.0,
            action_high=3.0,
        )
        super().__init__(spec, dtype=dtype, device=device)

    def initial_state(self, noise: Tensor) -> EnvState:
        t = torch.zeros(noise.shape[0], dtype=torch.float64, device=noise.device)
        return EnvState(t, torch.full_like(noise, self.config.initial_wealth))

    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        fraction, consumption = action[:, :1], action[:, 1:].clamp(min=1e-4)
        after = self.market.wealth_after(state.x, fraction, consumption, self.spec.dt, noise)
        reward = self.spec.dt * self.market.utility(consumption * state.x)
        return EnvState(state.t + self.spec.dt, after), reward[:, 0]

    def best_consumption(self) -> float:
        """K [1/year], the share of wealth to consume per year."""
        p = self.market.risk_aversion
        return (self.config.discount_rate - (1.0 - p) * self.market.growth(self.market.best_fraction())) / p

    def optimal_policy(self) -> Feedback:
        """The constant best pair."""
        pair = torch.tensor([self.market.best_fraction(), self.best_consumption()], dtype=self.dtype)
        return Feedback(lambda obs: pair.to(obs.device).expand(len(obs), 2))

    def value(self, x: Tensor, fraction: float | None = None, consumption: float | None = None) -> Tensor:
        """Value of a constant share and consumption rate, by default the best; -inf or inf where it diverges."""
        p = self.market.risk_aversion
        share = self.market.best_fraction() if fraction is None else fraction
        k = self.best_consumption() if consumption is None else consumption
        rate = self.config.discount_rate - (1.0 - p) * (self.market.growth(share) - k)
        return self.market.utility(k * x) / rate if rate > 0.0 else self.market.utility(x) * math.inf
