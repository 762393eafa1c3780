"""q-functions that are quadratic in the action and satisfy the normalisation constraint by construction.

    q(x, a) = gamma log pi(a | x),  pi(. | x) = N(mu(x), gamma exp(s(x))),  so that  int exp(q / gamma) da = 1

Source: Jia and Zhou, "q-Learning in continuous time", JMLR 24 (2023). The restriction to a box of actions is ours:
there the optimal q of a control-affine problem with quadratic cost is this law restricted to the box, not a Gaussian.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rlcore.checks import check_positive
from rlcore.errors import ConfigError, NumericsError
from rlcore.functional import truncated


class QuadraticQ(nn.Module):
    """q(x, a) = -1/2 exp(-s) |a - mu(x)|^2 - (gamma/2) m (log(2 pi gamma) + s), its log-curvature s a parameter [m]."""

    def __init__(self, mean: nn.Module, action_dim: int, temperature: float, *, log_scale: float = 0.0) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        self.mean = mean  # [*, d] -> [*, m]
        self.temperature = temperature
        self.log_scale = nn.Parameter(torch.full((action_dim,), log_scale))  # s: the policy's variance is gamma exp(s)
        self.noise_dim = action_dim

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:  # [*, d], [*, m] -> [*]
        squares: Tensor = torch.exp(-self.log_scale) * (action - self.mean(obs)) ** 2
        gamma = self.temperature
        return (-0.5 * squares - 0.5 * gamma * (math.log(2.0 * math.pi * gamma) + self.log_scale)).sum(-1)

    @property
    def variance(self) -> Tensor:  # [m]
        """Variance of the policy that this q stands for."""
        return self.temperature * torch.exp(self.log_scale)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        mean: Tensor = self.mean(obs)
        return mean if noise is None else mean + torch.sqrt(self.variance) * noise


class BoxQuadraticQ(nn.Module):
    """The same on a box: q = gamma log of N(mu(x), scale(x)^2) restricted to [low, high]^m.

    `network` gives 2 m numbers per row. The mean is kept within two half-widths of the middle and the scale between 1/8
    and 4 half-widths, which leaves room for a nearly linear q and keeps the tails within float64.
    """

    def __init__(self, network: nn.Module, action_dim: int, temperature: float, low: float, high: float) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        if not low < high:
            raise ConfigError(f"need low < high, got {low} and {high}")
        self.network = network  # [*, d] -> [*, 2m]
        self.temperature = temperature
        self.low, self.high = low, high
        self.noise_dim = action_dim

    def law(self, obs: Tensor) -> tuple[Tensor, Tensor]:  # -> [*, m], [*, m]
        """Mean and scale of the normal law before it is restricted."""
        centre, spread = self.network(obs).chunk(2, dim=-1)
        half = 0.5 * (self.high - self.low)
        mean = 0.5 * (self.high + self.low) + 2.0 * half * torch.tanh(centre)
        low, high = math.log(half / 8.0), math.log(4.0 * half)
        return mean, torch.exp(low + (high - low) * torch.sigmoid(spread + 1.0))

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:  # [*, d], [*, m] -> [*]
        return self.temperature * truncated.log_density(action, *self.law(obs), self.low, self.high)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        mean, scale = self.law(obs)
        if noise is None:
            return mean.clamp(self.low, self.high)  # the mode
        return truncated.sample(noise, mean, scale, self.low, self.high)


NormalisedPolicy = QuadraticQ | BoxQuadraticQ


def normalised_by_construction(q: nn.Module) -> bool:
    """Whether q is one of the forms above, its formula included."""
    return type(q).forward in (QuadraticQ.forward, BoxQuadraticQ.forward)


@torch.no_grad()
def check_normalised(q: NormalisedPolicy, obs: Tensor, samples: int = 1 << 13) -> None:  # [N, d]
    """Raise unless int exp(q(x, a) / gamma) da = 1 at these states, for a q of the user's own.

    The integral is importance-sampled from the normal law fitted to the q's own actions, half as wide again.
    """
    rows = obs.reshape(-1, obs.shape[-1])[:4]
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(2, samples, 1, q.noise_dim, generator=generator).to(rows)
    here = rows.expand(samples, *rows.shape)
    own = q.act(here, draw[0].expand(-1, len(rows), -1))  # [S, N, m]
    scale = 1.5 * own.std(0) + 1e-6
    z = draw[1].expand(-1, len(rows), -1)
    log_proposal = -(0.5 * z**2 + scale.log() + 0.5 * math.log(2.0 * math.pi)).sum(-1)
    ratio = torch.exp(q(here, own.mean(0) + scale * z) / q.temperature - log_proposal)  # [S, N]
    mass, error = ratio.mean(0), ratio.std(0) / math.sqrt(samples)
    wrong = ~((mass - 1.0).abs() <= 0.05 + 5.0 * error)
    if bool(wrong.any()):
        raise NumericsError(
            f"q must satisfy int exp(q(x, a) / gamma) da = 1, got {float(mass[wrong][0]):.3g} at a state of the data; "
            "subtract gamma log of that integral from it, use QuadraticQ, or NormalisedQ with networks"
        )
