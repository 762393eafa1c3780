"""What can be promised of the true reward from samples, and the monitors that say so.

    kappa = p / C,   certificate = (p - e) / C - sqrt(1 - r^2)

Two things make a certificate from samples weaker than one from exact occupancies.

1. A learned ratio misses what is rare under mu0 before it has been fitted to it, while it calibrates as well as a ratio
   of 1 does. No statistic of a row has a larger chi^2 than the rows themselves, and the proxy's own law needs no
   network: C^2 is at least the chi^2 of that law, of which p^2 is the part that its mean shows.
2. p - s C is a mean over the few episodes of a batch. Its derivative by mu at a row is X - s L / C, X the standardised
   proxy; the spread of that sum between episodes is its standard error, and e is 1.645 times it: one-sided, 95 %.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlcore.functional.occupancy import bound_a, bound_t

BELIEVED = 0.25  # |E_mu0[L] - 1| on reference rows that no network has seen, up to which a ratio certifies
OVERFIT = 1.25  # chi^2 by networks that have seen the rows over that by networks that have not, at most
ONE_SIDED = 1.6449  # standard errors below which a normal variable stays in one case of twenty
WIDTH, REACH = 0.5, 10.0  # of the proxy's histogram, in its deviations on the reference; the ends are open


def histogram(x: Tensor, share: Tensor) -> Tensor:  # [..., N], weights that sum to 1 -> [..., bins]
    """The law of a standardised proxy."""
    edges = torch.arange(-REACH, REACH + 0.5 * WIDTH, WIDTH, device=x.device)
    found = torch.zeros(*x.shape[:-1], len(edges) + 1, device=x.device)
    return found.scatter_add_(-1, torch.bucketize(x.float(), edges), share.float())


def chi_squared_of_laws(law: Tensor, base: Tensor, rows: int) -> Tensor:  # [S, bins], [bins] -> [S]
    """chi^2 of the proxy's law under mu from that under mu0; a bin that the reference never saw counts as one row."""
    return (law.square() / (base + 1.0 / rows)).sum(-1) - 1.0


def error_of_mean(x: Tensor, share: Tensor, paths: int) -> Tensor:  # [S, k K n], [S, k K n] -> [S]
    """Standard error of sum(share x) / sum(share) where the n paths are independent, and their rows are not."""
    if paths < 2:
        return torch.full_like(x[:, 0], math.inf)
    mean = (share * x).sum(1, keepdim=True) / share.sum(1, keepdim=True)
    parts = (share * (x - mean)).reshape(len(x), -1, paths).sum(1)  # [S, n]
    return (parts.square().sum(1) * paths / (paths - 1)).sqrt()


def cautious(bound: Tensor, believed: Tensor) -> Tensor:
    """A bound, or kappa, but no promise of a gain from an estimate that cannot be right."""
    return torch.where(believed, bound, bound.clamp(max=0.0)).float()


def certificates(
    p: Tensor, root: Tensor, x: Tensor, log_ratio: Tensor, share: Tensor, paths: int, believed: Tensor, r: float | None
) -> dict[str, Tensor]:  # [S], [S], [S, N], [S, N], [S, N]
    """kappa, and what it certifies: nothing of a gain where it is not `believed`, nor without a correlation r.

    The worst of estimates, a chi^2 below p^2 that is raised to it, would otherwise mean kappa = 1, the best one.
    """
    kappa = cautious((p / root).clamp(-1.0, 1.0), believed)
    found = {"hack/kappa": kappa, "hack/alarm_certificate": torch.zeros_like(kappa)}
    if r is None or not r > 0.0:
        return found
    r = min(r, 1.0)
    needed = math.sqrt(1.0 - r * r)
    error = ONE_SIDED * error_of_mean(x - needed * log_ratio.exp() / root.unsqueeze(1), share, paths)
    sure = p - error
    certificate = cautious((sure / root).clamp(-1.0, 1.0), believed) - needed
    return found | {
        "hack/kappa_required": torch.full_like(kappa, needed),
        "hack/kappa_error": error / root,
        "hack/certificate": certificate,
        "hack/bound_A": cautious(bound_a(sure, root, r), believed),
        "hack/bound_T": cautious(bound_t(sure, root, r), believed),
        "hack/alarm_certificate": (certificate < 0.0).float(),
    }


def comparison(
    proxy: Tensor, true: Tensor, own: Tensor, p: Tensor, true_mean: float | None, correlation: float | None
) -> dict[str, Tensor]:  # [S, N], [S, N], [S, N], [S]
    """The true reward beside the proxy; `true_mean` and `correlation` are those of the reference."""
    share = own / own.sum(1, keepdim=True)
    found = {"hack/J_true": (share * true).sum(1)}
    if true_mean is not None:
        worse = (own * true).sum(1) < true_mean
        found["hack/hacked"] = ((p > 0.0) & worse).float()
    on_policy, constant = pearson(proxy, true, share)
    found |= {"hack/corr_on_policy": on_policy, "hack/alarm_zero_variance": constant}
    if correlation is not None:
        drop = correlation - on_policy
        found |= {
            "hack/corr_base": torch.full_like(drop, correlation),
            "hack/corr_drop": drop,
            "hack/alarm_corr_drop": (drop > 0.3).float(),
        }
    return found


def pearson(a: Tensor, b: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:  # [S, N] -> [S], [S]
    """Correlation under weights, 0 where one of the two is constant, and 1 there: an alarm, not a NaN."""
    off_a, off_b = (x - (share * x).sum(1, keepdim=True) for x in (a, b))
    va, vb = ((share * off.square()).sum(1) for off in (off_a, off_b))
    constant = torch.minimum(va, vb) <= 1e-12 * torch.maximum(a.square().amax(1), b.square().amax(1))
    found = (share * off_a * off_b).sum(1) / (va * vb).clamp(min=1e-30).sqrt()
    return torch.where(constant, 0.0, found), constant.float()
