"""A stock, traded on a signal: what a backtest without costs promises as the proxy, what is left of it as the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlcore.checks import check_not_negative, check_numbers, check_positive
from rlcore.envs.hacking import market_law
from rlcore.envs.hacking.market_drawing import draw_market
from rlcore.envs.hacking.market_law import MONTHS, PERCENT, LinearRule
from rlcore.simulation.environment import ControlSpec, Environment, EnvState
from rlcore.timegrid import steps_in

SIGNAL, WEIGHT, WEALTH, PAPER = range(4)  # columns of the state


@dataclass(frozen=True)
class MarketConfig:
    """One stock, one signal that was better in the sample, and what trading costs. Time is in years."""

    premium: float = 0.06
    """mu, mean excess return of the stock [1/year]."""
    volatility: float = 0.2
    """sigma [1/sqrt(year)]."""
    promise: float = 0.10
    """kappa_in: what one unit of the signal added to the return in the sample [1/year]."""
    delivered: float = 0.06
    """kappa: what it adds out of it [1/year]."""
    fading: float = 25.0
    """phi, the rate at which the signal forgets [1/year]."""
    impact: float = 2e-5
    """Lambda: trading at a rate v [1/year] costs Lambda v^2 / 2 [1/year]; a trade of all wealth in a day, 0.25 %."""
    risk_aversion: float = 2.0
    """gamma."""
    trade_limit: float = 30.0
    """Fastest trade, of wealth [1/month]."""
    dt: float = 1.0 / 252.0
    """Interval between trades [year]."""
    horizon: float = 1.0
    """Length of an episode [year]."""
    discount_rate: float = 2.0
    """beta [1/year]."""


class Market(Environment):
    """Trade a stock on a signal whose worth was estimated in a sample, at prices that one's own trades move.

        dR = (mu + kappa s) dt + sigma dW,   s an Ornstein-Uhlenbeck process of variance 1,   x' = 12 u

    Observation
    | # | quantity                     | range     | unit |
    |---|------------------------------|-----------|------|
    | 0 | signal s                     | about +-3 | 1    |
    | 1 | weight x that is held        | about +-3 | 1    |

    Action: the rate of trade u in [-30, 30] of wealth per month, beyond it the ends, during one interval; the weight
    w = x + 12 u dt is held for it.

    Proxy reward, in % of wealth: ((mu + kappa_in s) w - gamma/2 w^2 sigma^2) dt, what a backtest promises.
    True reward, in %: ((mu + kappa s) w - gamma/2 w^2 sigma^2 - Lambda/2 (12 u)^2) dt, out of the sample, net of costs.
    Both are expectations given the state; the wealth that is drawn is realised.
    The hack: trade to Markowitz's weight at once, whenever the signal moves.
    Start: Merton's weight, s from its law. End: never terminates; truncated after a year.

    Known answer
    | quantity        | value                                                           | default, % a year      |
    |-----------------|-----------------------------------------------------------------|------------------------|
    | `hold()`        | Merton's weight mu / (gamma sigma^2), best of the constants     | true 2.25, proxy 2.25  |
    | `markowitz()`   | (mu + kappa_in s) / (gamma sigma^2), the optimum of the proxy   | true -15.2, proxy 8.50 |
    | `best()`        | Gârleanu and Pedersen's part of the way, that of the truth      | true 3.52, proxy 5.56  |

    and of every linear rule the occupancy, both rewards, their correlation and chi^2 to another (`market_law`). With
    shorter intervals the proxy's optimum costs the more: its weight is no smoother than Brownian motion.

    Source: Merton, Review of Economics and Statistics 51, 1969; Gârleanu and Pedersen, Journal of Finance 68, 2013;
    Bailey and Lopez de Prado, Journal of Portfolio Management 40, 2014, for the gap between sample and future.
    """

    def __init__(
        self,
        config: MarketConfig = MarketConfig(),
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        for name in ("volatility", "risk_aversion", "fading", "trade_limit"):
            check_positive(name, getattr(config, name))
        check_not_negative("impact", config.impact)
        check_numbers("premium, promise, delivered", config.premium, config.promise, config.delivered)
        steps_in(config.horizon, config.dt)
        self.config = config
        spec = ControlSpec(
            name="rlcore/Market-v0",
            state_dim=4,
            action_dim=1,
            noise_dim=2,
            dt=config.dt,
            horizon=config.horizon,
            discount_rate=config.discount_rate,
            action_low=-config.trade_limit,
            action_high=config.trade_limit,
            observation_dim=2,
            initial_noise_dim=1,
        )
        super().__init__(spec, dtype=dtype, device=device)
        self._dt = torch.tensor([config.dt], dtype=torch.float64, device=self.device)

    def initial_state(self, noise: Tensor) -> EnvState:  # [B, 1]
        zero = torch.zeros_like(noise)
        t = torch.zeros(len(noise), dtype=torch.float64, device=noise.device)
        return EnvState(t, torch.cat([noise, zero + self.merton_weight(), zero, zero], 1))

    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        c = self.config
        signal, held, wealth, paper = state.x.unbind(1)
        rate = self.rate(action)
        weight = held + rate * c.dt
        chance = c.premium * c.dt + c.volatility * math.sqrt(c.dt) * noise[:, 0]
        kept = market_law.forgetting(c)
        parts = [
            kept * signal + math.sqrt(1.0 - kept**2) * noise[:, 1],
            weight,
            wealth + weight * (chance + c.delivered * c.dt * signal) - 0.5 * c.impact * c.dt * rate**2,
            paper + weight * (chance + c.promise * c.dt * signal),
        ]
        after = EnvState(state.t + self._dt, torch.stack(parts, 1))
        return after, self.proxy_reward(state, action, after)

    def rate(self, action: Tensor) -> Tensor:  # [B, 1] 1/month -> [B] 1/year
        """The rate of trade that is carried out."""
        limit = self.config.trade_limit
        return MONTHS * action[:, 0].clamp(-limit, limit)

    def utility(self, state: EnvState, after: EnvState, slope: float) -> Tensor:  # -> [B] 1/year
        """(mu + slope s) w - gamma/2 w^2 sigma^2."""
        c, weight = self.config, after.x[:, WEIGHT]
        risk = 0.5 * c.risk_aversion * c.volatility**2
        return (c.premium + slope * state.x[:, SIGNAL]) * weight - risk * weight**2

    def proxy_reward(self, state: EnvState, action: Tensor, after: EnvState) -> Tensor:  # -> [B] %
        """What the backtest promises of the interval."""
        return PERCENT * self.spec.dt * self.utility(state, after, self.config.promise)

    def true_reward(self, state: EnvState, action: Tensor, after: EnvState) -> Tensor:  # -> [B] %
        """What it brings: with the signal as it is, net of what the trade costs."""
        cost = 0.5 * self.config.impact * self.rate(action) ** 2
        return PERCENT * self.spec.dt * (self.utility(state, after, self.config.delivered) - cost)

    def observe(self, state: EnvState) -> Tensor:  # -> [B, 2]
        return state.x[:, : WEIGHT + 1]

    def merton_weight(self) -> float:
        """mu / (gamma sigma^2), the best constant weight."""
        return self.config.premium / (self.config.risk_aversion * self.config.volatility**2)

    def hold(self, weight: float | None = None) -> LinearRule:
        """Trade to a weight and hold it: Merton's unless another is given."""
        return LinearRule(self.merton_weight() if weight is None else weight, 0.0, 0.0, 0.0, self.config.dt)

    def markowitz(self) -> LinearRule:
        """The optimum of the proxy: the weight that would be best if trading cost nothing and the sample were right."""
        return market_law.best_rule(self.config, self.config.promise, 0.0)

    def best(self) -> LinearRule:
        """The optimum of the true reward."""
        return market_law.best_rule(self.config, self.config.delivered, self.config.impact)

    def desk(self, speed: float = 26.0, share: float = 0.5, spread: float = 0.05) -> LinearRule:
        """A careful desk: towards a share of what the signal is worth, at a speed [1/year], executed with noise."""
        c = self.config
        keep = math.exp(-speed * c.dt)
        worth = c.delivered / (c.risk_aversion * c.volatility**2)
        return LinearRule((1.0 - keep) * self.merton_weight(), keep, (1.0 - keep) * share * worth, spread, c.dt)

    def render(self, state: EnvState) -> NDArray[np.uint8]:  # [400, 400, 3]
        """Picture of row 0: gains on paper beside gains after costs, the weight and the signal."""
        x = state.x[0].tolist()
        return draw_market(x[PAPER], x[WEALTH], x[WEIGHT] / 4.0, x[SIGNAL] / 3.0)
