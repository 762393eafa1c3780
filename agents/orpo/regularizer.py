"""The occupancy of a policy beside that of a reference: fitted, turned into a penalty per step, and watched.

    L = mu / mu0,   C = sqrt(chi^2(mu | mu0)),   p = (J(P) - J0(P)) / sd(P),   kappa = p / C

kappa >= sqrt(1 - r^2) certifies that every true reward with correlation r to the proxy on the reference is at least
what it was there. chi^2 >= p^2 always, so an estimate below is raised to it.
Source: Laidlaw, Singhal and Dragan, "Correlated proxies", ICLR 2025; penalties as in `functional.occupancy`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from rlcore.agents.orpo.base_data import OccupancySpace, Occupied, occupied, true_reward
from rlcore.agents.orpo.monitors import BELIEVED, OVERFIT, certificates, chi_squared_of_laws, comparison, histogram
from rlcore.agents.orpo.ratio import Ratio, RatioConfig, RatioNetworks, divergences
from rlcore.agents.orpo.rows import apart, merged
from rlcore.agents.orpo.strength import Certified, Strength
from rlcore.data import Transitions
from rlcore.errors import ConfigError, DataError
from rlcore.functional.occupancy import (
    check_correlation,
    fisher_limit,
    maxmin_reward,
    moments,
    penalty,
    spread,
)

Kind = Literal["none", "sqrt_chi2", "chi2", "kl", "forward_kl", "tv", "maxmin", "ad_kl", "ad_chi2", "ad_sqrt_chi2"]
ON_OCCUPANCY = ("sqrt_chi2", "chi2", "kl", "forward_kl", "tv")
SEEN = 0.005  # share by which C exceeds |p| in the max-min reward at least: sqrt(C^2 - p^2) is then a tenth of |p|


@dataclass(frozen=True)
class RegularizerConfig:
    """What is penalised, how strongly, and how the ratio is learned."""

    kind: Kind = "sqrt_chi2"
    """On occupancies: sqrt_chi2, chi2, kl, forward_kl, tv, maxmin (the tight bound); on actions: ad_kl, ad_chi2,
    ad_sqrt_chi2; none only watches."""
    strength: Strength = field(default_factory=Certified)
    """lambda: `Certified()`, `Constant(...)` or `DualAscent(...)`. maxmin needs r alone."""
    r: float | None = None
    """Correlation of the proxy with the true reward on the reference; None takes it from labelled steps."""
    labelled: int | None = None
    """How many steps of the reference, drawn by their weight, are looked at for r, which is their lower confidence
    limit. None looks at all: where some true rewards are NaN, not labelled, r is the limit from those that are."""
    centred: bool = False
    """Whether prices count from their mean in the batch. In episodes of one length nothing depends on that mean, but it
    is about lambda / C, which swings from batch to batch where C is small, and no critic follows it."""
    least: float = 1e-3
    """C [1] below which it is not divided by: two samples of one occupancy look as far apart as that."""
    space: OccupancySpace = field(default_factory=OccupancySpace)
    """What the occupancy is of."""
    ratio: RatioConfig = field(default_factory=RatioConfig)
    """How the ratio is learned."""


class OccupancyRegularizer(nn.Module):
    """Reference data, ratio networks and lambda for S runs; row b of a batch belongs to run b mod S.

    `base` are whole episodes of the reference policy [K, B0], as `gather_base` makes them. Paths are split in two
    folds, so that no network judges an episode that it has seen.
    """

    features: Tensor  # [M, f] of the base, absorbing rows included
    weight: Tensor  # [M]
    fold: Tensor  # [M]
    strength: Tensor  # [S] lambda
    proxy_mean: Tensor  # [] J0(P)
    proxy_sd: Tensor  # []
    law: Tensor  # [bins] of the standardised proxy

    def __init__(
        self,
        base: Transitions,
        widths: tuple[int, int],
        horizon: float,
        config: RegularizerConfig,
        *,
        seeds: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if config.kind not in get_args(Kind):
            raise ConfigError(f"kind must be one of {', '.join(get_args(Kind))}, got {config.kind!r}")
        if base.reward.dim() != 2 or base.reward.shape[1] < 2:
            raise DataError(f"the base must be rows [K, B] of at least 2 paths, got {list(base.reward.shape)}")
        self.config, self.widths, self.horizon, self.seeds = config, widths, horizon, seeds
        self.action_divergence = config.kind.removeprefix("ad_") if config.kind.startswith("ad_") else None
        found = occupied(base, config.space, widths, horizon)
        features, weight = with_absorbing(found)
        share = weight.double() / weight.double().sum()
        mean, sd = spread(padded(base.reward.double()), share)
        if not float(sd) > 0.0:
            raise DataError(
                "the proxy is constant on the reference: zero variance, so no correlation; take a reference that varies"
            )
        self.correlation, self.r = self.correlate(base, share, seed)
        paths = torch.arange(base.reward.shape[1], device=base.reward.device).expand(base.reward.shape)
        kept = weight > 0.0
        self.register_buffer("features", features[kept])
        self.register_buffer("weight", weight[kept])
        self.register_buffer("fold", paths.flatten().repeat(2)[kept] % 2)
        self.register_buffer("proxy_mean", mean.float())
        self.register_buffer("proxy_sd", sd.float())
        self.register_buffer("law", histogram((padded(base.reward.double()) - mean) / sd, share))
        if config.kind == "maxmin" or isinstance(config.strength, Certified):
            self.needed_r()
        first = config.strength.first(float(sd), self.r)
        self.register_buffer("strength", torch.full((seeds,), first, device=mean.device))
        self.networks = RatioNetworks(features.shape[-1], config.ratio, seeds=seeds, seed=seed).to(mean.device)

    def correlate(self, base: Transitions, share: Tensor, seed: int) -> tuple[float | None, float | None]:
        """Pearson's correlation of what is labelled on the base, and the r that is relied on."""
        config, measured, count = self.config, None, self.config.labelled
        self.true_mean: float | None = None  # J0 of the true reward
        if "true_reward" in base.extras:
            proxy, true = padded(base.reward.double()), padded(true_reward(base).double())
            known = share * true.isfinite()
            if count is not None:  # so many steps of the reference's occupancy, as if no others had a label
                generator = torch.Generator(share.device).manual_seed(seed)
                drawn = torch.multinomial(known, max(count, 1), True, generator=generator)
                known = torch.bincount(drawn, minlength=len(known)).to(share)
            elif not bool(true.isfinite().all()):
                count = int((known > 0.0).sum())
            known, true = known / known.sum(), true.nan_to_num()
            self.true_mean = float((known * true).sum())
            if float(spread(true, known)[1]) > 0.0 and float(spread(proxy, known)[1]) > 0.0:
                measured = float(moments(proxy, true, known).correlation)
        if config.r is not None:
            return measured, check_correlation(config.r)
        if measured is not None and count is not None:
            return measured, fisher_limit(measured, count)
        return measured, measured

    def needed_r(self) -> float:
        """r where it is indispensable."""
        if self.r is None:
            raise ConfigError(
                "lambda* needs the correlation of proxy and true reward on the reference; give r, a base with a true "
                "reward that varies, or strength=Constant(...)"
            )
        return check_correlation(self.r)

    def fit(self, batch: Transitions) -> tuple[Tensor, dict[str, Tensor]]:
        """The penalty of each step [K, B], to be subtracted from the proxy, and what is worth watching."""
        found = occupied(batch, self.config.space, self.widths, self.horizon)
        steps = len(batch.reward)
        rows, weight = with_absorbing(found, self.seeds)  # [S, 2 N, f], [S, 2 N]
        paths = batch.reward.shape[1] // self.seeds
        fold = (torch.arange(paths, device=weight.device) % 2).repeat(2 * steps)
        if not self.config.space.absorbing:
            half = rows.shape[1] // 2
            rows, weight, fold = rows[:, :half], weight[:, :half], fold[:half]
        ratio = self.networks.fit(rows, weight, fold, self.features, self.weight, self.fold)
        return self.judge(batch, found, ratio, weight)

    def judge(
        self, batch: Transitions, found: Occupied, ratio: Ratio, weight: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Penalties and monitors from calibrated ratios."""
        config, seeds, steps = self.config, self.seeds, len(batch.reward)
        share = weight / weight.sum(1, keepdim=True)  # [S, N]
        count = share.shape[1] // (2 if config.space.absorbing else 1)
        proxy = merged(apart(batch.reward.float(), seeds))  # [S, N]
        own = share[:, :count]  # absorbing rows pay nothing
        log_ratio = ratio.log_ratio
        chi2, kl = divergences(log_ratio, share)
        x = (torch.cat([proxy, torch.zeros_like(share[:, count:])], 1) - self.proxy_mean) / self.proxy_sd  # [S, N]
        p = (share * x).sum(1)
        root = torch.maximum(chi2, p.square()).clamp(min=config.least**2).sqrt()  # C [S]
        self.strength.copy_(config.strength.after(self.strength, root))
        overfit = divergences(ratio.own, share)[0] / chi2.clamp(min=config.least**2)
        wary = torch.maximum(log_ratio, ratio.own)
        price = self.price(wary, x, p, root)  # [S, N] in units of the proxy
        if config.centred:
            price = price - (share * price).sum(1, keepdim=True)
        per_step = back(price[:, :count], steps)
        if config.space.absorbing:  # what the absorbing state costs is paid on entering it
            per_step = per_step + back(price[:, count:], steps) * found.onward
        stats = {
            "div/sqrt_chi2": root,
            "div/chi2_plain": (share * torch.expm1(log_ratio)).sum(1),
            "div/chi2_overfit": overfit,
            "div/kl": kl,
            "div/unsupported_frac": ratio.clamped,
            "div/effective_share": 1.0 / (1.0 + root.square()),
            "disc/calibration": ratio.calibration,
            "disc/inverse_mean": (share * torch.exp(-log_ratio)).sum(1) - 1.0,
            "disc/below_p2": (chi2 < p.square()).float(),
            "disc/loss": ratio.loss,
            "disc/rounds": ratio.rounds,
            "disc/flat": ratio.flat,
            "reg/lambda": self.strength,
            "reg/penalty_share": (own * price[:, :count].abs()).sum(1) / (own * proxy.abs()).sum(1).clamp(min=1e-12),
        }
        believed = (chi2 >= p.square()) & (ratio.calibration.abs() <= BELIEVED) & (overfit <= OVERFIT)
        believed &= ratio.flat > 0.5
        floor = chi_squared_of_laws(histogram(x, share), self.law, len(self.weight))
        at_least = torch.maximum(root.square(), floor).sqrt()
        paths = batch.reward.shape[1] // seeds
        stats |= {"hack/J_proxy": (own * proxy).sum(1), "div/sqrt_chi2_proxy": floor.clamp(min=0.0).sqrt()}
        stats |= certificates(p, at_least, x, log_ratio, share, paths, believed, self.r)
        if "true_reward" in batch.extras and bool(batch.extras["true_reward"].isfinite().all()):
            true = merged(apart(true_reward(batch).float(), seeds))
            stats |= comparison(proxy, true, own, p, self.true_mean, self.correlation)
        return per_step, stats

    def price(self, log_ratio: Tensor, x: Tensor, p: Tensor, root: Tensor) -> Tensor:
        """What each row [S, N] costs; nothing where actions, or nothing at all, are penalised."""
        config = self.config
        if config.kind == "maxmin":
            r = self.needed_r()
            apart_from_p = torch.maximum(root, (1.0 + SEEN) * p.abs())  # C^2 - p^2 is divided by
            gain = maxmin_reward(x, log_ratio, p.unsqueeze(1), apart_from_p.unsqueeze(1), r)
            return self.proxy_mean + self.proxy_sd * (x - gain)
        if config.kind not in ON_OCCUPANCY:
            return torch.zeros_like(log_ratio)
        return self.strength.unsqueeze(1) * penalty(config.kind, log_ratio, root.unsqueeze(1))  # type: ignore[arg-type]


def padded(reward: Tensor) -> Tensor:  # [K, B] -> [2 K B]
    """Rewards of the rows, and those of the absorbing rows after them, which are 0."""
    return torch.cat([reward.flatten(), torch.zeros_like(reward).flatten()])


def with_absorbing(found: Occupied, seeds: int | None = None) -> tuple[Tensor, Tensor]:
    """Rows followed by the absorbing rows that belong to them: flat [2 N, f], or by run [S, 2 N, f]."""
    end = torch.zeros_like(found.features)
    end[..., -1] = 1.0
    if seeds is None:
        parts = [x.flatten(0, 1) for x in (found.features, end)], [found.weight.flatten(), found.after_end.flatten()]
        return torch.cat(parts[0]), torch.cat(parts[1])
    features = torch.cat([merged(apart(x, seeds)) for x in (found.features, end)], 1)
    return features, torch.cat([merged(apart(x, seeds)) for x in (found.weight, found.after_end)], 1)


def back(x: Tensor, steps: int) -> Tensor:  # [S, K n] -> [K, n S], the order of a batch
    """The inverse of taking runs apart and merging their steps."""
    return x.reshape(len(x), steps, -1).permute(1, 2, 0).flatten(1, 2)


Law = Callable[[Tensor], Tensor]
