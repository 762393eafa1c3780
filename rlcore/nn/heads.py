"""Laws of actions from a network's outputs: categorical, Gaussian and Beta, each with its divergences in closed form.

A head is a set of pure functions of parameters [*, P], the network's `outputs` followed by `free` numbers that do not
depend on the state. Actions are [*, m], log-densities and divergences [*]; noise is standard normals [*, noise_dim].
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import one_hot, softplus

from rlcore.checks import check_integer
from rlcore.errors import ConfigError

HALF_LOG_TAU = 0.5 * math.log(2.0 * math.pi)


class Head(ABC):
    """A family of laws over actions."""

    outputs: int
    """Parameters that the network gives."""
    free: int = 0
    """Parameters that are the same at every state; they begin at 0."""
    noise_dim: int
    """Standard normals per action."""
    action_dim: int
    """m."""

    @abstractmethod
    def act(self, law: Tensor, noise: Tensor | None) -> Tensor:
        """An action; the deterministic one without noise."""

    @abstractmethod
    def log_prob(self, law: Tensor, action: Tensor) -> Tensor:
        """log pi(action)."""

    @abstractmethod
    def entropy(self, law: Tensor) -> Tensor:
        """-E log pi."""

    @abstractmethod
    def kl(self, p: Tensor, q: Tensor) -> Tensor:
        """KL(p | q)."""

    @abstractmethod
    def chi_squared(self, p: Tensor, q: Tensor) -> Tensor:
        """chi^2(p | q) = E_q (p / q - 1)^2; infinite where the integral diverges."""


def uniform(noise: Tensor) -> Tensor:
    """Standard normals as uniform numbers, strictly inside (0, 1)."""
    edge = torch.finfo(noise.dtype).eps
    return (0.5 * torch.erfc(noise * -math.sqrt(0.5))).clamp(edge, 1.0 - edge)


class Categorical(Head):
    """One of m choices, as a one-hot action: what an environment with `spec.discrete` takes."""

    def __init__(self, choices: int) -> None:
        check_integer("choices", choices)
        if choices < 2:
            raise ConfigError(f"need at least 2 choices, got {choices}")
        self.outputs = self.action_dim = choices
        self.noise_dim = 1

    def act(self, law: Tensor, noise: Tensor | None) -> Tensor:
        if noise is None:
            choice = law.argmax(-1)
        else:
            upto = torch.softmax(law, -1).cumsum(-1)[..., :-1]
            choice = (uniform(noise) > upto).sum(-1)  # the inverse of the distribution function
        return one_hot(choice, self.action_dim).to(law.dtype)

    def log_prob(self, law: Tensor, action: Tensor) -> Tensor:
        return (torch.log_softmax(law, -1) * action).sum(-1)

    def entropy(self, law: Tensor) -> Tensor:
        log_p = torch.log_softmax(law, -1)
        return -(log_p.exp() * log_p).sum(-1)

    def kl(self, p: Tensor, q: Tensor) -> Tensor:
        log_p, log_q = torch.log_softmax(p, -1), torch.log_softmax(q, -1)
        return (log_p.exp() * (log_p - log_q)).sum(-1)

    def chi_squared(self, p: Tensor, q: Tensor) -> Tensor:
        log_p, log_q = torch.log_softmax(p, -1), torch.log_softmax(q, -1)
        return torch.expm1((2.0 * log_p - log_q).logsumexp(-1))


class _Boxed(Head):
    """What the laws on a box [low, high]^m share."""

    def __init__(self, action_dim: int, low: float, high: float) -> None:
        check_integer("action_dim", action_dim)
        if not -math.inf < low < high < math.inf:
            raise ConfigError(f"need finite low < high, got {low} and {high}")
        self.action_dim, self.low, self.width = action_dim, low, high - low
        self.log_width = math.log(self.width)


class DiagonalGaussian(_Boxed):
    """N(mean(x), scale^2) with one scale per component for all states, at first half of the box's half-width.

    Actions may lie outside the box: the environment decides what those do.
    """

    def __init__(self, action_dim: int, low: float, high: float) -> None:
        super().__init__(action_dim, low, high)
        self.outputs = self.free = self.noise_dim = action_dim

    def moments(self, law: Tensor) -> tuple[Tensor, Tensor]:  # -> [*, m], [*, m]
        """Mean and log of the scale, in the units of the action."""
        raw, spread = law.chunk(2, -1)
        half = 0.5 * self.width
        return self.low + half * (1.0 + raw), spread.clamp(-8.0, 3.0) + math.log(0.5 * half)

    def act(self, law: Tensor, noise: Tensor | None) -> Tensor:
        mean, log_scale = self.moments(law)
        return mean if noise is None else mean + log_scale.exp() * noise

    def log_prob(self, law: Tensor, action: Tensor) -> Tensor:
        mean, log_scale = self.moments(law)
        z = (action - mean) / log_scale.exp()  # the same exponential as in `act`: a graph of both has it once
        return -(0.5 * z * z + log_scale).sum(-1) - self.action_dim * HALF_LOG_TAU

    def entropy(self, law: Tensor) -> Tensor:
        return (self.moments(law)[1] + (0.5 + HALF_LOG_TAU)).sum(-1)

    def kl(self, p: Tensor, q: Tensor) -> Tensor:
        (mean, log_scale), (other, log_other) = self.moments(p), self.moments(q)
        gap = log_scale - log_other
        return (0.5 * ((mean - other) * torch.exp(-log_other)) ** 2 + 0.5 * torch.expm1(2.0 * gap) - gap).sum(-1)

    def chi_squared(self, p: Tensor, q: Tensor) -> Tensor:
        """prod_i s_q^2 / (s_p v) exp((mean difference)^2 / v^2) - 1 with v^2 = 2 s_q^2 - s_p^2, if that is positive."""
        (mean, log_scale), (other, log_other) = self.moments(p), self.moments(q)
        ratio = torch.exp(2.0 * (log_scale - log_other))  # s_p^2 / s_q^2
        left = 2.0 - ratio  # v^2 / s_q^2
        square = ((mean - other) * torch.exp(-log_other)) ** 2
        safe = left.clamp(min=1e-6)
        found = torch.expm1((square / safe - 0.5 * torch.log(ratio * safe)).sum(-1))
        return torch.where((left > 1e-6).all(-1), found, math.inf)


class Beta(_Boxed):
    """low + width Beta(a(x), b(x)) with a, b = 1 + softplus of the outputs: never outside the box, always unimodal.

    Sampled from two Gamma variables by Marsaglia and Tsang's rejection, with `TRIES` proposals: the chance that all
    are refused, in which case the last is taken, is below 1e-5 at a = 1 and falls with a.
    Source: Marsaglia and Tsang, ACM TOMS 26 (2000); Chou, Maturana and Scherer, ICML 2017, for the policy.
    """

    TRIES = 4

    def __init__(self, action_dim: int, low: float, high: float) -> None:
        super().__init__(action_dim, low, high)
        self.outputs, self.noise_dim = 2 * action_dim, 4 * self.TRIES * action_dim

    def shapes(self, law: Tensor) -> tuple[Tensor, Tensor]:  # -> [*, m], [*, m]
        """a and b."""
        a, b = (1.0 + softplus(law)).chunk(2, -1)
        return a, b

    def act(self, law: Tensor, noise: Tensor | None) -> Tensor:
        a, b = self.shapes(law)
        if noise is None:
            return self.low + self.width * a / (a + b)
        x = noise.view(*noise.shape[:-1], 2, 2, self.TRIES, self.action_dim)  # a or b, (x, u), try
        shape = torch.stack([a, b], -2)  # [*, 2, m]
        d = (shape - 1.0 / 3.0).unsqueeze(-2)
        normal, u = x[..., 0, :, :], uniform(x[..., 1, :, :])
        v = (1.0 + normal / (9.0 * d).sqrt()) ** 3
        safe = v.clamp(min=1e-12)
        accepted = (v > 0.0) & (u.log() < 0.5 * normal**2 + d * (1.0 - v + safe.log()))
        accepted[..., -1, :] = True
        first = accepted.to(torch.uint8).argmax(-2, keepdim=True)
        gamma: Tensor = (d * safe).gather(-2, first).squeeze(-2)  # [*, 2, m]
        share = gamma[..., 0, :] / gamma.sum(-2)
        return self.low + self.width * share

    def log_prob(self, law: Tensor, action: Tensor) -> Tensor:
        a, b = self.shapes(law)
        edge = torch.finfo(law.dtype).eps
        share = ((action - self.low) / self.width).clamp(edge, 1.0 - edge)
        logs = (a - 1.0) * share.log() + (b - 1.0) * torch.log1p(-share)
        return (logs - log_beta(a, b) - self.log_width).sum(-1)

    def entropy(self, law: Tensor) -> Tensor:
        a, b = self.shapes(law)
        total = (a + b - 2.0) * torch.digamma(a + b)
        own = log_beta(a, b) - (a - 1.0) * torch.digamma(a) - (b - 1.0) * torch.digamma(b)
        return (own + total + self.log_width).sum(-1)

    def kl(self, p: Tensor, q: Tensor) -> Tensor:
        (a, b), (c, d) = self.shapes(p), self.shapes(q)
        logs = (a - c) * torch.digamma(a) + (b - d) * torch.digamma(b) + (c - a + d - b) * torch.digamma(a + b)
        return (log_beta(c, d) - log_beta(a, b) + logs).sum(-1)

    def chi_squared(self, p: Tensor, q: Tensor) -> Tensor:
        (a, b), (c, d) = self.shapes(p), self.shapes(q)
        e, f = 2.0 * a - c, 2.0 * b - d
        exists = (e > 1e-6) & (f > 1e-6)
        log_ratio = log_beta(e.clamp(min=1e-6), f.clamp(min=1e-6)) + log_beta(c, d) - 2.0 * log_beta(a, b)
        return torch.where(exists.all(-1), torch.expm1(log_ratio.sum(-1)), math.inf)


def log_beta(a: Tensor, b: Tensor) -> Tensor:
    """log of the Beta function."""
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
