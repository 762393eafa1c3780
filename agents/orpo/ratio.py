"""log(mu / mu0) from samples of both, by cross-fitted networks of S independent runs.

| loss       | minimises                                        | its optimum     |
|------------|--------------------------------------------------|-----------------|
| classifier | E_mu softplus(-d) + E_mu0 softplus(d)            | d = log L       |
| nwj        | E_mu0 e^d - E_mu d                               | d = log L       |
| kliep      | log E_mu0 e^d - E_mu d                           | d = log L + any |

Each run has one network per fold. What a network says of a row is used only where the row is of another fold, and its
exponential is divided by its mean over reference rows of that fold, so that E_mu0[L] = 1.
Source: Nguyen, Wainwright and Jordan, IEEE Trans. Inf. Theory 56 (2010); Sugiyama et al., AISM 60 (2008), for KLIEP.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from rlcore.checks import check_integer, check_positive
from rlcore.errors import ConfigError
from rlcore.nn.ensemble import Ensemble, Layers
from rlcore.nn.flat_adam import FlatAdam, Pace
from rlcore.nn.random_stream import RandomStream
from rlcore.parallel import world

RatioLoss = Literal["classifier", "nwj", "kliep"]
CHECKED = 4096
"""Reference rows on which a fold is calibrated."""
LARGEST_INVERSE, LARGEST_CONTROL = 10.0, 0.1


@dataclass(frozen=True)
class RatioConfig:
    """How the ratio of two occupancies is learned. It shares nothing with the policy: neither rate nor steps."""

    loss: RatioLoss = "classifier"
    """classifier, nwj or kliep."""
    layers: Layers = field(default_factory=lambda: Layers((64, 64), activation="leaky_relu", output_gain=0.1))
    """Hidden layers of each network: leaky_relu where log L is unbounded in the features, as between two Gaussians;
    tanh on flags and other bounded ones, since it claims less of what it has not seen."""
    rate: float = 1e-3
    """Adam's step size."""
    rows: int = 256
    """Rows of each of the two kinds per gradient step."""
    steps: int = 64
    """Gradient steps of a round."""
    rounds: int = 8
    """Rounds per update at most; the next one begins only while the calibration is off by more than `tolerance`."""
    tolerance: float = 0.05
    """|E_mu0[e^d] - 1| on reference rows that the network has not seen, below which it is good enough."""
    reset_at: float = 30.0
    """The same, at which a network begins anew in the next update. Where mu is far from mu0 a few reference rows decide
    it, and a network that begins anew every time sees them too seldom."""
    gradient_clip: float = 1.0
    """Largest Euclidean norm of a gradient."""
    largest: float = 10.0
    """d_max: |d| is kept below this; where it gets there, mu has left what mu0 visits."""
    cross_fit: bool = True
    """Whether rows are judged by a network that has not seen them."""
    compiled: bool = False
    """Whether a gradient step is one compiled graph."""


class Ratio(NamedTuple):
    """What the networks say of the rows of mu, and how far that can be trusted; [S] but for the first and last."""

    log_ratio: Tensor  # [S, N] log L, calibrated, clamped before that
    calibration: Tensor  # E_mu0[e^d] - 1 before the division, the worse fold
    loss: Tensor  # of the last steps
    clamped: Tensor  # share of mu's mass where d reached d_max
    rounds: Tensor  # how many were needed, []
    own: Tensor  # [S, N] log L by the networks that have seen the rows


class RatioNetworks(nn.Module):
    """The networks, their optimiser and their data; group s F + f is fold f of run s."""

    def __init__(self, inputs: int, config: RatioConfig, *, seeds: int = 1, seed: int = 0) -> None:
        super().__init__()
        check_ratio_config(config)
        self.config, self.seeds, self.folds = config, seeds, 2 if config.cross_fit else 1
        groups = seeds * self.folds
        generator = torch.Generator().manual_seed(seed)
        self.networks = Ensemble(groups, 1, inputs, 1, config.layers, generator=generator)
        self.adam = FlatAdam(self, "objective", groups, compiled=config.compiled)
        self.stream = RandomStream(seed)
        self.register_buffer("first", self.adam.flat())
        self.register_buffer("fresh", torch.ones(groups))

    first: Tensor  # [G, P] the weights to begin anew with
    fresh: Tensor  # [G] 1 where a network begins anew

    def log_ratio(self, x: Tensor) -> Tensor:  # [G, N, d] -> [G, N]
        """d of each network at rows of its own."""
        return self.networks(x)[:, 0, :, 0]  # type: ignore[no-any-return]

    def log_mean(self, x: Tensor) -> Tensor:  # [G, C, d] -> [G]
        """log of the mean of e^d, d clamped."""
        d = self.log_ratio(x).clamp(-self.config.largest, self.config.largest)
        return d.logsumexp(1) - math.log(x.shape[1])

    def objective(self, ours: Tensor, theirs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Loss of each network [G] on rows of mu and of mu0, [G, N, d] each."""
        count = ours.shape[1]
        d = self.log_ratio(torch.cat([ours, theirs], 1))
        here, there = d[:, :count], d[:, count:]
        if self.config.loss == "classifier":
            loss = softplus(-here).mean(1) + softplus(there).mean(1)
        elif self.config.loss == "nwj":
            loss = there.clamp(max=self.config.largest).exp().mean(1) - here.mean(1)
        else:
            loss = there.logsumexp(1) - math.log(there.shape[1]) - here.mean(1)
        return loss, ()

    @torch.no_grad()
    def fit(
        self, rows: Tensor, weight: Tensor, fold: Tensor, base: Tensor, base_weight: Tensor, base_fold: Tensor
    ) -> Ratio:
        """Learn from rows of mu [S, N, d], [S, N], [N], and of mu0 [M, d], [M], [M]; then judge those of mu."""
        config, folds = self.config, self.folds
        generator = self.stream.on(rows.device)
        again = self.fresh.unsqueeze(1)
        flat = torch.lerp(self.adam.flat(), self.first, again)
        for moment in (self.adam.mean, self.adam.square):
            moment.mul_(1.0 - again)
        self.adam.steps.mul_(1.0 - self.fresh)
        which = torch.arange(folds, device=rows.device).unsqueeze(1)  # [F, 1]
        mine = (fold % folds == which).to(weight)  # [F, N]
        theirs = base_weight * (base_fold % folds == which)  # [F, M]
        chances = (weight.unsqueeze(1) * mine).flatten(0, 1)  # [G, N]
        active = torch.ones(len(flat), device=rows.device)
        at, pace = self.adam.begin(flat), Pace(torch.full((), config.rate, device=rows.device), config.gradient_clip)
        size, losses = config.steps * config.rows, active
        held_out = base[torch.multinomial(theirs.flip(0), CHECKED, True, generator=generator)]  # [F, C, d]
        seen = base[torch.multinomial(theirs, CHECKED, True, generator=generator)]
        held_out, seen = (x.repeat(self.seeds, 1, 1) for x in (held_out, seen))  # fold f is checked on the other one
        rounds = 0

        def part(x: Tensor) -> Tensor:  # KLIEP takes the logarithm of a mean, which is no mean over shares
            return x if config.loss == "kliep" else world().own(x, 1)

        for _ in range(config.rounds):
            drawn = torch.multinomial(chances, size, True, generator=generator)  # [G, steps rows]
            of_run = torch.arange(self.seeds, device=rows.device).repeat_interleave(folds).unsqueeze(1)
            ours = rows[of_run, drawn].reshape(len(flat), config.steps, config.rows, -1)
            other = base[torch.multinomial(theirs, size * self.seeds, True, generator=generator)]
            other = other.reshape(folds, self.seeds, config.steps, config.rows, -1).transpose(0, 1).flatten(0, 1)
            for k in range(config.steps):
                pair = (part(x[:, k]).contiguous() for x in (ours, other))
                _, losses = self.adam.step(at, pace, active, *pair)
            rounds += 1
            self.adam.store(flat)
            level = self.log_mean(seen) if config.loss == "kliep" else torch.zeros_like(active)  # free in that loss
            log_mean = self.log_mean(held_out)  # [G]
            off = torch.expm1(log_mean - level)
            if not bool((off.abs() > config.tolerance).any()):
                break
        self.fresh.copy_((off.abs() > config.reset_at).to(self.fresh))
        x = rows.repeat_interleave(folds, 0)
        raw = self.log_ratio(x).clamp(-config.largest, config.largest)  # [G, N]
        calibrated = (raw - log_mean.unsqueeze(1)).unflatten(0, (self.seeds, folds))  # type: ignore[no-untyped-call]
        judged = mine.flip(0)  # [F, N] rows that a network judges: those of the other fold
        log_ratio = (calibrated * judged).sum(1)
        own = (calibrated * mine).sum(1)
        reached = raw.unflatten(0, (self.seeds, folds)) >= config.largest  # type: ignore[no-untyped-call]
        share = weight / weight.sum(1, keepdim=True)
        return Ratio(
            log_ratio,
            by_run(off, folds),
            losses.view(self.seeds, folds).mean(1),
            (share * (reached * judged).sum(1)).sum(1),
            torch.tensor(float(rounds), device=rows.device),
            own,
        )


def by_run(off: Tensor, folds: int) -> Tensor:  # [S F] -> [S]
    """Of each run the fold that is farther off, with its sign."""
    apart = off.view(-1, folds)
    return apart.gather(1, apart.abs().argmax(1, keepdim=True)).squeeze(1)


def divergences(log_ratio: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:  # [S, N], weights that sum to 1 -> [S], [S]
    """chi^2(mu | mu0) = E_mu[L - 1] and KL(mu | mu0) = E_mu[log L], with E_mu[1/L] - 1 as a control variate.

    Adding it halves the variance near L = 1. But 1/L is large on rows that are rare under mu, of which learned ratios
    know least: a few of them make E_mu[1/L] a hundred, which is at most 1. So 1/L is cut at 10, and what it adds at
    0.1, more than which no sound ratio asks for.
    """
    inverse = (share * torch.exp(-log_ratio).clamp(max=LARGEST_INVERSE)).sum(1)
    control = (inverse - 1.0).clamp(-LARGEST_CONTROL, LARGEST_CONTROL)
    return (share * torch.expm1(log_ratio)).sum(1) + control, (share * log_ratio).sum(1) + control


def check_ratio_config(config: RatioConfig) -> None:
    """Raise unless these settings can be used."""
    if config.loss not in get_args(RatioLoss):
        raise ConfigError(f"loss must be one of {', '.join(get_args(RatioLoss))}, got {config.loss!r}")
    for name in ("rate", "tolerance", "reset_at", "gradient_clip", "largest"):
        check_positive(name, getattr(config, name))
    for name in ("rows", "steps", "rounds"):
        check_integer(name, getattr(config, name))
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} must be at least 1, got {getattr(config, name)}")
