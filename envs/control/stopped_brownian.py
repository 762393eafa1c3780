"""Brownian motion until it leaves an interval: policy evaluation with an exit that may fall between two time steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.checks import check_not_negative, check_numbers, check_positive
from rlcore.errors import ConfigError
from rlcore.simulation.environment import ControlSpec, Environment, EnvState


@dataclass(frozen=True)
class StoppedBrownianConfig:
    """Settings; x has no unit."""

    low: float = -1.0
    """a, lower end of the interval."""
    high: float = 1.0
    """b, upper end of the interval."""
    start: float = 0.0
    """x_0, where every path begins."""
    sigma: float = 1.0
    """Noise [1/sqrt(s)]."""
    running: float = 1.0
    """Reward per second inside."""
    payoff_low: float = 0.0
    """Reward on leaving at a."""
    payoff_high: float = 0.0
    """Reward on leaving at b."""
    discount_rate: float = 0.0
    """beta [1/s]."""
    bridge: bool = True
    """Draw whether the path between two observations left the interval; False looks at the observations alone."""
    dt: float = 0.01
    """Time between observations [s]."""

    def __post_init__(self) -> None:
        check_numbers("low, high, start", self.low, self.high, self.start)
        check_numbers("running, payoff_low, payoff_high", self.running, self.payoff_low, self.payoff_high)
        check_positive("sigma", self.sigma, "1/sqrt(s)")
        check_not_negative("discount_rate", self.discount_rate, "1/s")
        if not self.low < self.start < self.high:
            raise ConfigError(f"need low < start < high, got {self.low}, {self.start} and {self.high}")


class StoppedBrownian(Environment):
    """A Brownian motion that nobody controls, stopped where it first leaves an interval.

    ## Dynamics
    dX = sigma dW until X leaves (a, b). With `bridge`, a second number decides whether the path has left between two
    observations that lie inside: the Brownian bridge from x to y passes b with probability
    exp(-2 (b - x)(b - y) / (sigma^2 dt)). Without it the exit is seen late, as if the interval were wider by
    0.5826 sigma sqrt(dt) at both ends, which is an error of order 1/2.

    ## Observation and action
    | num | observation | low | high | unit |     | num | action  | low | high | unit |
    |-----|-------------|-----|------|------|-----|-----|---------|-----|------|------|
    | 0   | X           | a   | b    | none |     | 0   | ignored | -1  | 1    | none |

    ## Reward
    `running` per second inside, half a step of it in the step of the exit when that was drawn from the bridge; a payoff
    at the end where the path leaves.

    ## Start and end
    X_0 = 0. Terminates on leaving; X is then the end of the interval.

    ## Closed form
    `value`: V = c/beta + A exp(k x) + B exp(-k x) with k = sqrt(2 beta) / sigma, and V(a), V(b) the payoffs; without
    discount V = payoff line + c (b - x)(x - a) / sigma^2. The mean exit time from 0 out of (-1, 1) is 1 s.

    Source: Gobet, "Euler schemes for the weak approximation of killed diffusion", Stoch. Proc. Appl. 87, 2000, for the
    order 1/2 and the bridge; the closed forms are elementary.
    """

    def __init__(
        self,
        config: StoppedBrownianConfig = StoppedBrownianConfig(),
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        spec = ControlSpec(
            "rlcore/StoppedBrownian-v0",
            state_dim=1,
            action_dim=1,
            noise_dim=2,
            dt=config.dt,
            discount_rate=config.discount_rate,
        )
        super().__init__(spec, dtype=dtype, device=device)
        self.config = config

    def initial_state(self, noise: Tensor) -> EnvState:
        t = torch.zeros(noise.shape[0], dtype=torch.float64, device=noise.device)
        return EnvState(t, torch.full_like(noise, self.config.start))

    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        c, dt, x = self.config, self.spec.dt, state.x[:, 0]
        y = x + c.sigma * math.sqrt(dt) * noise[:, 0]
        above, below = y >= c.high, y <= c.low
        inside = torch.full_like(x, dt)  # seconds of the step that the path spent inside
        if c.bridge:
            rate = -2.0 / (c.sigma**2 * dt)
            passed_high = torch.exp(rate * (c.high - x) * (c.high - y)).clamp(max=1.0)  # 1 where y lies beyond b
            passed_low = torch.exp(rate * (x - c.low) * (y - c.low)).clamp(max=1.0)
            drawn = torch.special.ndtr(noise[:, 1])
            above, below = above | (drawn < passed_high), below | (drawn > 1.0 - passed_low)
            below = below & ~(y >= c.high)  # the end that the observation shows wins
            above = above & ~below
            inside = torch.where(above | below, 0.5 * dt, inside)
        y = torch.where(above, c.high, torch.where(below, c.low, y))
        after = EnvState(state.t + dt, y.unsqueeze(1))
        return after, c.running * inside

    def terminated(self, state: EnvState) -> Tensor:  # -> bool [B]
        return (state.x[:, 0] >= self.config.high) | (state.x[:, 0] <= self.config.low)

    def terminal_reward(self, state: EnvState) -> Tensor:  # -> [B]
        low, high = (state.x.new_tensor(v) for v in (self.config.payoff_low, self.config.payoff_high))
        return torch.where(state.x[:, 0] >= self.config.high, high, low)

    def value(self, x: Tensor) -> Tensor:  # [*] -> [*]
        """The exact value of the process in continuous time."""
        c = self.config
        share = (x - c.low) / (c.high - c.low)
        if not c.discount_rate:
            line = c.payoff_low + (c.payoff_high - c.payoff_low) * share
            return line + c.running * (c.high - x) * (x - c.low) / c.sigma**2
        rest = c.running / c.discount_rate
        k = math.sqrt(2.0 * c.discount_rate) / c.sigma
        width = math.sinh(k * (c.high - c.low))
        from_low = (c.payoff_low - rest) * torch.sinh(k * (c.high - x)) / width
        return rest + from_low + (c.payoff_high - rest) * torch.sinh(k * (x - c.low)) / width
