"""The papers' parametric forms for mean-variance investment: value, policy, and the multiplier that both depend on.

Observations are (wealth x, remaining time tau = T - t). Maximisation throughout: the papers' value with its sign
turned. Nothing here knows the market.
Source: Wang and Zhou, Mathematical Finance 30, 2020; Jia and Zhou, JMLR 23 (2022) 275.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rlcore.checks import check_not_negative, check_numbers, check_positive
from rlcore.data import Trajectory

SLOPE_SHARE = 0.05  # of a batch in the running mean of the slope
LEAST_SLOPE = 0.02  # a market that hardly moves the mean
LONGEST_STEP = 1.0  # money, before the rate: so that a target out of reach does not carry w away


class Multiplier(nn.Module):
    """w, the Lagrange multiplier of E X_T = z, and the reward that follows from it.

        reward at the end (w - z)^2 - (X_T - w)^2,    w -= alpha_w l(j) (mean X_T - z) / s,    l(j) = j^-decay

    s is a running mean of the slope dE X_T/dw = 1 - E (X_T - w) / (x_0 - w), for a policy whose mean is linear in
    x - w; the papers take s = 1, which stalls where the market moves the mean little. How the wealth of a path moves
    does not depend on w, so paths are rewarded when they are used: `rewarded` replaces the environment's reward.
    """

    value: Tensor  # [] money
    updates: Tensor  # [], j - 1
    slope: Tensor  # [], s

    def __init__(self, target: float, initial: float, *, rate: float = 1.0, decay: float = 0.51) -> None:
        super().__init__()
        check_numbers("target, initial", target, initial)
        check_positive("rate", rate)
        check_not_negative("decay", decay)
        self.target, self.rate, self.decay = target, rate, decay
        self.register_buffer("value", torch.tensor(initial, dtype=torch.float64))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("slope", torch.ones((), dtype=torch.float64))

    def rewarded(self, batch: Trajectory) -> Trajectory:
        """The same paths, paid at their end by the multiplier of the moment."""
        ends = batch.terminated & batch.alive  # [K, B]
        payoff = (self.value - self.target) ** 2 - (batch.obs[1:, :, 0] - self.value) ** 2
        return batch.replace(reward=torch.where(ends, payoff.to(batch.reward.dtype), 0.0))

    @torch.no_grad()
    def update(self, batch: Trajectory) -> None:
        """One step of dual ascent on the mean terminal wealth of a batch of whole paths."""
        self.updates += 1
        start, end = batch.obs[0, :, 0].double().mean(), batch.obs[-1, :, 0].double().mean()
        measured = (end - start) / (self.value - start)
        self.slope += SLOPE_SHARE * (measured - self.slope)
        missing = (self.target - end) / self.slope.clamp(min=LEAST_SLOPE)
        self.value += self.rate * self.updates.double() ** -self.decay * missing.clamp(-LONGEST_STEP, LONGEST_STEP)


class WealthValue(nn.Module):
    """J = (w - z)^2 - (x - w)^2 exp(-theta_3 tau) + theta_2 (2 T tau - tau^2) + theta_1 tau.

    At tau = 0 it is the terminal reward, for every theta. The optimum has theta_3 = rho^2.
    """

    def __init__(self, multiplier: Multiplier, horizon: float = 1.0) -> None:
        super().__init__()
        check_positive("horizon", horizon, "year")
        self.multiplier, self.horizon = multiplier, horizon
        self.theta = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def forward(self, obs: Tensor) -> Tensor:  # [..., 2] -> [...]
        w, z, left = self.multiplier.value, self.multiplier.target, obs[..., 1]
        quadratic = (obs[..., 0] - w) ** 2 * torch.exp(-self.theta[2] * left)
        drift = self.theta[1] * (2.0 * self.horizon * left - left**2) + self.theta[0] * left
        return (w - z) ** 2 - quadratic + drift


class WealthPolicy(nn.Module):
    """N(-phi_1 (x - w), exp(phi_2 + phi_3 tau)); the optimum has phi_1 = rho / sigma and phi_3 = rho^2."""

    noise_dim = 1

    def __init__(self, multiplier: Multiplier) -> None:
        super().__init__()
        self.multiplier = multiplier
        self.phi = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def mean(self, obs: Tensor) -> Tensor:  # [..., 2] -> [..., 1]
        return -self.phi[0] * (obs[..., :1] - self.multiplier.value)

    def log_variance(self, obs: Tensor) -> Tensor:  # [..., 2] -> [..., 1]
        return self.phi[1] + self.phi[2] * obs[..., 1:]

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:  # [..., 2] -> [..., 1]
        mean = self.mean(obs)
        action = mean if noise is None else mean + torch.exp(0.5 * self.log_variance(obs)) * noise
        return action.to(obs.dtype)

    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:  # [..., 2], [..., 1] -> [...]
        spread = self.log_variance(obs)
        squares = (action - self.mean(obs)) ** 2 * torch.exp(-spread)
        return -0.5 * (squares + spread + math.log(2.0 * math.pi))[..., 0]

    def entropy(self, obs: Tensor) -> Tensor:  # [..., 2] -> [...]
        return 0.5 * (self.log_variance(obs)[..., 0] + math.log(2.0 * math.pi * math.e))


def precision(value: WealthValue, policy: WealthPolicy, floor: float = 0.1) -> Callable[[Tensor], Tensor]:
    """eta(x) = 1 / (((x - w)^2 + floor^2) exp(-2 theta_3 tau) E a^2): one over the variance of delta, but for sigma.

    The noise of delta is dJ/dx a sigma dW, so rows far from w would outvote all others: without weights the step has
    sixth moments of the wealth, whose tails are those of a lognormal. `floor` [money] bounds eta near w.
    """
    check_positive("floor", floor, "money")

    def weight(obs: Tensor) -> Tensor:  # [..., 2] -> [...]
        gap = (obs[..., 0] - policy.multiplier.value) ** 2 + floor**2
        action = policy.mean(obs)[..., 0] ** 2 + torch.exp(policy.log_variance(obs)[..., 0])
        return torch.exp(2.0 * value.theta[2] * obs[..., 1]) / (gap * action)

    return weight
