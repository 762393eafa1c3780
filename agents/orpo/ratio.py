"""log(mu / mu0) from samples of both, by cross-fitted networks of S independent runs.

| loss       | minimises                                        | its optimum     |
|------------|--------------------------------------------------|-----------------|
| classifier | E_mu softplus(b - d) + k E_mu0 softplus(d - b)   | d = log L       |
| nwj        | E_mu0 e^d - E_mu d                               | d = log L       |
| kliep      | log E_mu0 e^d - E_mu d                           | d = log L + any |

The classifier is told that there are k rows of mu0 for each of mu, b = log k; k = 1 is the balanced one.

Each run has one network per fold. What a network says of a row is used only where the row is of another fold, and its
exponential is divided by its mean over reference rows of that fold, so that E_mu0[L] = 1. Its loss is watched there
too: it begins with what it knew of the batch before, and learns until that loss is flat.
Source: Nguyen, Wainwright and Jordan, IEEE Trans. Inf. Theory 56 (2010); Sugiyama et al., AISM 60 (2008), for KLIEP.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus

from rlcore.agents.orpo.held_out import Flatness, Rows, systematic
from rlcore.checks import check_integer, check_positive
from rlcore.errors import ConfigError
from rlcore.nn.ensemble import Ensemble, Layers
from rlcore.nn.flat_adam import Bound, Descent, FlatAdam, Pace
from rlcore.nn.random_stream import RandomStream
from rlcore.parallel import world

RatioLoss = Literal["classifier", "nwj", "kliep"]
CHECKED, CALIBRATED = 4096, 16384
"""Rows of each kind on which a fold is watched; rows of the reference on which it is calibrated at the end, so that
E_mu0[L] has a standard error of C / 128."""
LARGEST_INVERSE, LARGEST_CONTROL = 10.0, 0.1


@dataclass(frozen=True)
class RatioConfig:
    """How the ratio of two occupancies is learned. It shares nothing with the policy: neither rate nor steps."""

    loss: RatioLoss = "classifier"
    """classifier, nwj or kliep."""
    odds: float = 20.0
    """k of the classifier. A row of mu pulls as long as L is below k there; with k = 1 what is rare under mu0 hardly
    pulls any more long before its L is found. As k grows the loss becomes NWJ's, with its variance."""
    layers: Layers = field(default_factory=lambda: Layers((64, 64), activation="leaky_relu", output_gain=0.1))
    """Hidden layers of each network: leaky_relu where log L is unbounded in the features, as between two Gaussians;
    tanh on flags and other bounded ones, since it claims less of what it has not seen."""
    rate: float = 1e-3
    """Adam's step size."""
    rows: int = 256
    """Rows of each of the two kinds per gradient step."""
    steps: int = 32
    """Gradient steps of a round, after which a network is looked at on rows that it has not seen."""
    rounds: int = 32
    """Rounds per update at most, whether the loss on those rows is flat or not."""
    patience: int = 2
    """A network rests after so many rounds in a row without a gain beyond its standard error: the loss is flat."""
    reset_at: float = 30.0
    """|E_mu0[e^d] - 1| at which a network begins anew in the next update. Where mu is far from mu0 a few reference rows
    decide it, and a network that begins anew every time sees them too seldom."""
    gradient_clip: float = 1.0
    """Largest Euclidean norm of a gradient."""
    largest: float = 10.0
    """d_max: |d| is kept below this; where it gets there, mu has left what mu0 visits."""
    cross_fit: bool = True
    """Whether rows are judged by a network that has not seen them."""
    compiled: bool = False
    """Whether a gradient step is one compiled graph, which resting networks take part in."""


class Ratio(NamedTuple):
    """What the networks say of the rows of mu, and how far that can be trusted; [S] but for the first and last."""

    log_ratio: Tensor  # [S, N] log L, calibrated, clamped before that
    calibration: Tensor  # E_mu0[e^d] - 1 before the division, the worse fold
    loss: Tensor  # on rows of the other fold
    clamped: Tensor  # share of mu's mass where d reached d_max
    rounds: Tensor  # how many the slower fold took
    flat: Tensor  # 1 where both folds gain nothing any more, 0 where the rounds were not enough for that
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
        self.asked = [Bound(self, "log_ratio")]  # in a list, so that this module is no part of itself
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

    def terms(self, here: Tensor, there: Tensor) -> Rows:
        """What rows of mu and of mu0 with these d add to the losses, [G, N] each.

        KLIEP's log E_mu0 e^d is no mean over rows. To first order it is one of e^d / E e^d, which has its gradient.
        """
        if self.config.loss == "classifier":
            odds, level = self.config.odds, math.log(self.config.odds)
            return Rows(softplus(level - here), odds * softplus(there - level))
        grown = there.clamp(max=self.config.largest).exp()
        if self.config.loss == "nwj":
            return Rows(-here, grown)
        mean = grown.detach().mean(1, keepdim=True)
        return Rows(-here, grown / mean + (mean.log() - 1.0))

    def objective(self, ours: Tensor, theirs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Loss of each network [G] on rows of mu and of mu0, [G, N, d] each."""
        d = self.log_ratio(torch.cat([ours, theirs], 1))
        return self.terms(d[:, : ours.shape[1]], d[:, ours.shape[1] :]).mean(), ()

    def watched(self, flat: Tensor, ours: Tensor, theirs: Tensor) -> Rows:  # [g, P], [g, C, d], [g, D, d]
        """The same row by row, of networks with these weights."""
        return self.terms(*(functional_call(self.asked[0], self.adam.named(flat), (x,)) for x in (ours, theirs)))

    @torch.no_grad()
    def fit(
        self, rows: Tensor, weight: Tensor, fold: Tensor, base: Tensor, base_weight: Tensor, base_fold: Tensor
    ) -> Ratio:
        """Learn from rows of mu [S, N, d], [S, N], [N], and of mu0 [M, d], [M], [M]; then judge those of mu."""
        config, folds, seeds = self.config, self.folds, self.seeds
        generator = self.stream.on(rows.device)
        which = torch.arange(folds, device=rows.device).unsqueeze(1)  # [F, 1]
        mine = (fold % folds == which).to(weight)  # [F, N]
        chances = (weight.unsqueeze(1) * mine).double().cumsum(-1)  # [S, F, N]
        theirs = (base_weight * (base_fold % folds == which)).double().cumsum(-1)  # [F, M]
        run = torch.arange(seeds, device=rows.device).repeat_interleave(folds).unsqueeze(1)  # [G, 1]

        def ours(count: int, among: Tensor) -> Tensor:  # -> [G, count] of N
            return systematic(among, count, generator).flatten(0, 1)

        def others(count: int, among: Tensor) -> Tensor:  # -> [G, count] of M
            drawn = systematic(among, count * seeds, generator).view(folds, seeds, count)
            return drawn.transpose(0, 1).flatten(0, 1)

        held_out = base[others(CHECKED, theirs.flip(0))]  # fold f is checked on the other one
        here = rows[run, ours(min(CHECKED, rows.shape[1]), chances.flip(1))]
        at, pace = self.begin(), Pace(torch.full((), config.rate, device=rows.device), config.gradient_clip)
        flatness = Flatness(at.flat, self.watched(at.flat, here, held_out), config.patience)
        for k in range(config.rounds):
            live = (~flatness.rests).nonzero()[:, 0]
            if not len(live):
                break
            if config.compiled:
                live = torch.arange(len(at.flat), device=rows.device)  # a graph is one of so many networks
            a, b = (draw(config.steps * config.rows, x)[live] for draw, x in ((ours, chances), (others, theirs)))
            part = self.descend(at, live, pace, rows[run[live], a], base[b])
            found = self.watched(part.flat, here[live], held_out[live])
            flatness.look(live, part.flat, found, last=k == config.rounds - 1)
        self.adam.store(flatness.flat)
        log_mean = self.log_mean(base[others(CALIBRATED, theirs.flip(0))])  # [G]
        level = torch.zeros_like(log_mean)
        if config.loss == "kliep":  # free in that loss
            level = self.log_mean(base[others(CALIBRATED, theirs)])
        off = torch.expm1(log_mean - level)
        self.fresh.copy_((off.abs() > config.reset_at).to(self.fresh))
        raw = self.log_ratio(rows.repeat_interleave(folds, 0)).clamp(-config.largest, config.largest)  # [G, N]
        calibrated = (raw - log_mean.unsqueeze(1)).unflatten(0, (seeds, folds))  # type: ignore[no-untyped-call]
        judged = mine.flip(0)  # [F, N] rows that a network judges: those of the other fold
        reached = raw.unflatten(0, (seeds, folds)) >= config.largest  # type: ignore[no-untyped-call]
        share = weight / weight.sum(1, keepdim=True)
        return Ratio(
            (calibrated * judged).sum(1),
            by_run(off, folds),
            flatness.rows.mean().view(seeds, folds).mean(1),
            (share * (reached * judged).sum(1)).sum(1),
            flatness.rounds.view(seeds, folds).amax(1),
            flatness.rests.view(seeds, folds).all(1).to(weight),
            (calibrated * mine).sum(1),
        )

    def begin(self) -> Descent:
        """Where the last update ended; networks that were far off begin anew."""
        again = self.fresh.unsqueeze(1)
        flat = torch.lerp(self.adam.flat(), self.first, again)
        for moment in (self.adam.mean, self.adam.square):
            moment.mul_(1.0 - again)
        self.adam.steps.mul_(1.0 - self.fresh)
        return self.adam.begin(flat)

    def descend(self, at: Descent, live: Tensor, pace: Pace, ours: Tensor, theirs: Tensor) -> Descent:
        """A round of the networks `live` [g] on rows [g, steps rows, d] of both kinds: where they are now."""
        config, alike = self.config, len(live) == len(at.flat)
        part, active = at if alike else at.of(live), torch.ones(len(live), device=live.device)

        def batches(x: Tensor) -> Iterator[Tensor]:
            for rows in x.unflatten(1, (config.steps, config.rows)).unbind(1):  # type: ignore[no-untyped-call]
                # KLIEP takes the logarithm of a mean, which is no mean over the shares of several processes
                yield (rows if config.loss == "kliep" else world().own(rows, 1)).contiguous()

        for pair in zip(batches(ours), batches(theirs), strict=True):
            self.adam.step(part, pace, active, *pair)
        if not alike:
            at.put(live, part)
        return part


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
    for name in ("rate", "odds", "reset_at", "gradient_clip", "largest"):
        check_positive(name, getattr(config, name))
    for name in ("rows", "steps", "rounds", "patience"):
        check_integer(name, getattr(config, name))
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} must be at least 1, got {getattr(config, name)}")
