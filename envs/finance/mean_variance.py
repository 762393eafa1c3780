"""Pre-committed mean-variance investment with its closed forms."""

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
class MeanVarianceConfig:
    """One stock, one bank account, and the mean wealth that is wanted. Time is in years, wealth is discounted."""

    stock_return: float = 0.3
    """mu, mean return of the stock [1/year]."""
    volatility: float = 0.2
    """sigma [1/sqrt(year)]."""
    interest_rate: float = 0.02
    """r [1/year]."""
    initial_wealth: float = 1.0
    """x_0."""
    target: float = 1.4
    """z, the mean that the terminal wealth shall have."""
    multiplier: float | None = None
    """w, the Lagrange multiplier of that constraint; None takes the optimal one, w*."""
    horizon: float = 1.0
    """T [year]; the problem ends there by its own nature."""
    dt: float = 1.0 / 252.0
    """Rebalancing interval [year]."""
    temperature: float = 0.1
    """gamma, weight of the policy's entropy in the exploratory closed forms [money^2/year]; not in the reward."""
    action_limit: float = 20.0
    """Half the width of the declared action box; the dynamics do not clip."""

    def __post_init__(self) -> None:
        check_positive("volatility", self.volatility, "1/sqrt(year)")
        check_positive("action_limit", self.action_limit)
        check_not_negative("temperature", self.temperature, "money^2/year")
        check_numbers("stock_return, interest_rate", self.stock_return, self.interest_rate)
        check_numbers("initial_wealth, target", self.initial_wealth, self.target)
        steps_in(self.horizon, self.dt)
        if self.multiplier is not None:
            check_numbers("multiplier", self.multiplier)
        elif self.stock_return == self.interest_rate:
            raise ConfigError(
                f"need stock_return != interest_rate to move the mean, got {self.stock_return} for both; set multiplier"
            )

    @property
    def sharpe_rate(self) -> float:
        """rho = (mu - r) / sigma [1/sqrt(year)]."""
        return (self.stock_return - self.interest_rate) / self.volatility


@dataclass(frozen=True)
class MeanVariancePolicy:
    """N(-(rho / sigma) (x - w), (gamma / 2 sigma^2) exp(rho^2 (T - t))); the mean when no noise is given."""

    config: MeanVarianceConfig
    multiplier: float
    temperature: float
    noise_dim: int = 1

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # [B, 2] -> [B, 1]
        rho, sigma = self.config.sharpe_rate, self.config.volatility
        mean = -(rho / sigma) * (obs[:, :1] - self.multiplier)
        if noise is None:
            return mean
        return mean + noise * torch.exp(0.5 * rho**2 * obs[:, 1:]) * math.sqrt(self.temperature / (2.0 * sigma**2))


class MeanVariance(ControlledDiffusion):
    """Reach a mean wealth with the least variance, by trading one stock.

        dx = a [(mu - r) dt + sigma dW],   x discounted wealth, a discounted money in the stock

    The least variance of X_T subject to E X_T = z is sought by its Lagrangian, the least E (X_T - w)^2 - (w - z)^2.

    Observation
    | # | quantity           | range      | unit  |
    |---|--------------------|------------|-------|
    | 0 | wealth x           | (-inf, inf)| money |
    | 1 | remaining time T-t | [0, 1]     | year  |

    Action
    | # | quantity           | range      | unit  |
    |---|--------------------|------------|-------|
    | 0 | money in stock a   | [-20, 20]  | money |

    The box is declared, not enforced: any amount may be lent or borrowed.

    Reward: none on the way; (w - z)^2 - (X_T - w)^2 at the end. Not discounted. The exploratory closed forms add gamma
    times the entropy of the policy per year.
    Start: x = x_0 = 1. End: terminates at T = 1 year. The control interval is 1/252 year; a step is exact in law.

    Known answer, with rho = (mu - r) / sigma:
    | quantity                  | value                                                        | default          |
    |---------------------------|--------------------------------------------------------------|------------------|
    | `optimal_multiplier`      | w* = (z exp(rho^2 T) - x_0) / (exp(rho^2 T) - 1)             | 1.465581         |
    | `optimal_policy`          | N(-(rho/sigma) (x - w), (gamma/2 sigma^2) exp(rho^2 (T-t)))  |                  |
    | `terminal_variance`       | (x_0 - z)^2 / (exp(rho^2 T) - 1) + gamma T / 2               | .026232, .076232 |
    | `sharpe_ratio`            | sqrt(exp(rho^2 T) - 1), without exploration                  | 2.470            |

    Source: Wang and Zhou, "Continuous-time mean-variance portfolio selection", Mathematical Finance 30, 2020;
    Jia and Zhou, "Policy gradient and actor-critic learning in continuous time and space", JMLR 23 (275), 2022.
    """

    def __init__(
        self,
        config: MeanVarianceConfig = MeanVarianceConfig(),
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        spec = ControlSpec(
            name="rlcore/MeanVariance-v0",
            state_dim=1,
            action_dim=1,
            noise_dim=1,
            dt=config.dt,
            horizon=config.horizon,
            action_low=-config.action_limit,
            action_high=config.action_limit,
            observation_dim=2,
        )
        super().__init__(spec, EulerMaruyama(), dtype=dtype, device=device)
        self.config = config
        self.multiplier = self.optimal_multiplier() if config.multiplier is None else config.multiplier

    def initial_state(self, noise: Tensor) -> EnvState:
        t = torch.zeros(noise.shape[0], dtype=torch.float64, device=noise.device)
        return EnvState(t, torch.full_like(noise, self.config.initial_wealth))

    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return (self.config.stock_return - self.config.interest_rate) * u

    def diffusion(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return (self.config.volatility * u).unsqueeze(2)

    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def observe(self, state: EnvState) -> Tensor:
        return torch.stack([state.x[:, 0], (self.config.horizon - state.t).to(state.x.dtype)], dim=1)

    def terminated(self, state: EnvState) -> Tensor:
        return state.t > self.config.horizon - 0.5 * self.config.dt

    def terminal_reward(self, state: EnvState) -> Tensor:
        return (self.multiplier - self.config.target) ** 2 - (state.x[:, 0] - self.multiplier) ** 2

    def optimal_multiplier(self) -> float:
        """w*, for which the optimal terminal wealth has mean z."""
        c = self.config
        growth = math.exp(c.sharpe_rate**2 * c.horizon)
        return (c.target * growth - c.initial_wealth) / (growth - 1.0)

    def optimal_policy(self, temperature: float | None = None) -> MeanVariancePolicy:
        """The optimal policy at a temperature; by default the configured one, and 0 gives the classical feedback."""
        return MeanVariancePolicy(self.config, self.multiplier, self._temperature(temperature))

    def exploratory_variance(self, t: float, temperature: float | None = None) -> float:
        """Variance of the optimal policy at time t [year]."""
        c, gamma = self.config, self._temperature(temperature)
        return gamma / (2.0 * c.volatility**2) * math.exp(c.sharpe_rate**2 * (c.horizon - t))

    def optimal_value(self, t: Tensor, x: Tensor, temperature: float | None = None) -> Tensor:
        """Largest expected terminal reward plus gamma times entropy, from wealth x at time t [year]."""
        c, gamma = self.config, self._temperature(temperature)
        rho2, left = c.sharpe_rate**2, c.horizon - t
        entropy_cost = 0.0 * left
        if gamma:
            entropy_cost = 0.5 * gamma * (math.log(c.volatility**2 / (math.pi * gamma)) * left - 0.5 * rho2 * left**2)
        return (self.multiplier - c.target) ** 2 - (x - self.multiplier) ** 2 * torch.exp(-rho2 * left) - entropy_cost

    def terminal_mean(self) -> float:
        """E X_T under the optimal policy of any temperature, in continuous time; z if the multiplier is w*."""
        c = self.config
        return self.multiplier + (c.initial_wealth - self.multiplier) * math.exp(-(c.sharpe_rate**2) * c.horizon)

    def terminal_variance(self, temperature: float | None = None) -> float:
        """Var X_T under the optimal policy, in continuous time; exploration adds gamma T / 2."""
        c, gamma = self.config, self._temperature(temperature)
        decay = math.exp(-(c.sharpe_rate**2) * c.horizon)
        return (c.initial_wealth - self.multiplier) ** 2 * decay * (1.0 - decay) + 0.5 * gamma * c.horizon

    def sharpe_ratio(self) -> float:
        """(E X_T - x_0) / sd X_T of the classical optimum in continuous time."""
        return math.sqrt(math.expm1(self.config.sharpe_rate**2 * self.config.horizon))

    def rebalanced_moments(self, steps: int | None = None, temperature: float = 0.0) -> tuple[float, float]:
        """E X_T and E (X_T - w)^2 when the optimal policy acts in n = `steps` equal steps; by default those of dt.

        E X_T = w + (x_0 - w) (1 - rho^2 h)^n with h = T / n, and each step, its action of variance v, maps the second
        moment m to m ((1 - rho^2 h)^2 + rho^2 h) + v sigma^2 h (1 + rho^2 h).
        """
        c = self.config
        n = steps_in(c.horizon, c.dt) if steps is None else steps
        if n < 1:
            raise ConfigError(f"steps must be at least 1, got {n}")
        h = c.horizon / n
        share = c.sharpe_rate**2 * h
        second = (c.initial_wealth - self.multiplier) ** 2
        for k in range(n):
            explored = c.volatility**2 * h * (1.0 + share) * self.exploratory_variance(k * h, temperature)
            second = second * ((1.0 - share) ** 2 + share) + explored
        return self.multiplier + (c.initial_wealth - self.multiplier) * (1.0 - share) ** n, second

    def rebalanced_sharpe_ratio(self, steps: int | None = None, temperature: float = 0.0) -> float:
        """(E X_T - x_0) / sd X_T when the optimal policy acts in `steps` equal steps."""
        mean, second = self.rebalanced_moments(steps, temperature)
        return (mean - self.config.initial_wealth) / math.sqrt(second - (mean - self.multiplier) ** 2)

    def _temperature(self, temperature: float | None) -> float:
        return self.config.temperature if temperature is None else temperature
