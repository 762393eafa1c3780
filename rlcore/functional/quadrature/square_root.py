"""Bayesian quadrature in O(N): a square-root Kalman filter in two levels, without jitter.

    node            x+ = A x + B e,  y = H x + (noise),   one QR:  [H A S, H B, r; A S, B, 0] Q = [s, 0; g, S+]
                    gain K = g / s,   residual z = (y - H A m) / s,   m+ = A m + K (y - H A m)
    chunk of nodes  given its first state x:   z = W x + N(0, 1),   last state = F x + k(y) + S e
    chain           x ~ N(mu, P P'):   W = Q R,   one QR:  [R P, 1, 0; F P, 0, S] Q = [L, 0; M, P+],   C = M L^-1
                    mu+ = F mu + k(y) + C (Q'z - R mu)

The nodes of all chunks are taken side by side, then the chunks one after the other: 2 sqrt(N) small steps instead of N
keep the interpreter out of the bill. The last state is the integral itself, so its variance is that of Bayesian
quadrature, a sum of squares and never c - z'w; and the weights are the derivative of its mean, by one sweep backwards.
Diffuse coefficients are the unknown `x` of the first chunk: P is infinite there, and C = F R^-1.

Source: Anderson and Moore, Optimal Filtering, 1979, chapter 6; de Jong, Annals of Statistics 19, 1991, for diffuse
states.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from rlcore.errors import ConfigError
from rlcore.functional.quadrature.markov import MarkovPrior, transitions, triangle


class SquareRootFilter:
    """One pass over the nodes; batches of windows, length scales and masks stand in the leading dimensions.

    `times` [..., N], `start` and `end` [..., 1] in seconds; `rate` [...] turns seconds into the prior's time; `noise`
    is the variance of a measurement beside the prior's unit; `observed` is bool [..., N] or None.
    """

    weights: Tensor  # [..., N], in the prior's time
    variance: Tensor  # [...], of the integral
    log_determinant: Tensor  # [...], of the values' covariance; with diffuse coefficients, of the restricted likelihood

    def __init__(
        self,
        prior: MarkovPrior,
        times: Tensor,
        start: Tensor,
        end: Tensor,
        rate: Tensor,
        noise: Tensor,
        observed: Tensor | None,
    ) -> None:
        seen = torch.ones_like(times, dtype=torch.bool) if observed is None else observed
        ends = np.broadcast_shapes(times.shape[:-1], start.shape[:-1], end.shape[:-1])
        shape = np.broadcast_shapes(ends, rate.shape, noise.shape, seen.shape[:-1])
        self.count, self.diffuse, self.observed = times.shape[-1], prior.diffuse.shape[-1], seen
        self.degrees = seen.sum(-1) - self.diffuse
        self.length = max(math.isqrt(self.count) + 1, nodes_to_see(seen, self.diffuse))  # of a chunk
        self.pad = -(self.count + 1) % self.length + 1  # steps to the end of the window, without a value
        first, nodes, last = (part.double().expand(*ends, part.shape[-1]) for part in (start, times, end))
        steps = torch.cat([first, nodes, last.repeat_interleave(self.pad, -1)], -1).diff(dim=-1)
        A, B = transitions(prior, (steps * rate.double().unsqueeze(-1)).expand(*shape, -1))
        self.A, B = (self.chunks(part.to(times.dtype), 3) for part in (A, B))
        self.seen = self.chunks(torch.nn.functional.pad(seen, (0, self.pad)).expand(*shape, -1), 1)
        self.filter_chunks(prior, B, noise.to(times.dtype).expand(shape))
        self.chain()
        self.sweep_back()

    def chunks(self, x: Tensor, trailing: int) -> Tensor:  # [..., steps, *] -> [q, G, ..., *]
        """Steps by their place in a chunk and their chunk."""
        batch, rest = x.shape[:-trailing], x.shape[x.ndim - trailing + 1 :]
        return x.reshape(*batch, -1, self.length, *rest).movedim((-trailing, -trailing - 1), (0, 1))

    def filter_chunks(self, prior: MarkovPrior, B: Tensor, noise: Tensor) -> None:
        """Every chunk given its first state: the standard deviations, gains and sensitivities of its nodes."""
        n, like, seen = prior.size, B[0], self.seen
        S, F = torch.zeros_like(like), torch.eye(n, dtype=like.dtype, device=like.device).repeat(*like.shape[:-2], 1, 1)
        S[0, ..., : prior.proper.shape[-1]] = prior.proper.to(like)
        F[0] = 0.0  # nothing of the first state is unknown but the diffuse coefficients
        F[0, ..., : self.diffuse] = prior.diffuse.to(like)
        error = torch.where(seen, noise.sqrt(), 1.0)  # a value that is not seen is noise
        keep = torch.ones(*seen.shape, n, 1, dtype=like.dtype, device=like.device)
        keep[..., 0, 0].masked_fill_(seen & (noise == 0.0), 0.0)  # l is known: clears what rounding leaves of its row
        deviations, gains, sensitivities = [], [], []
        for j in range(self.length):
            state = torch.cat([self.A[j] @ S, B[j]], -1)
            value = torch.cat([state[..., :1, :] * seen[j, ..., None, None], error[j, ..., None, None]], -1)
            whole = triangle(torch.cat([value, torch.nn.functional.pad(state, (0, 1))], -2).mT)
            s, gain = whole[..., 0, 0], whole[..., 1:, :1] / whole[..., :1, :1]
            S = whole[..., 1:, 1:] * keep[j]
            F = self.A[j] @ F
            row = F[..., :1, :] * seen[j, ..., None, None]
            F = F - gain @ row
            deviations.append(s)
            gains.append(gain)
            sensitivities.append(row.squeeze(-2) / s.unsqueeze(-1))
        self.deviations, self.gains = torch.stack(deviations), torch.stack(gains)  # [q, G, ...], [q, G, ..., n, 1]
        self.Q, self.R = torch.linalg.qr(torch.stack(sensitivities, -2))  # [G, ..., q, m], [G, ..., m, n]
        self.F, self.S = F, S

    def chain(self) -> None:
        """The first states of the chunks, one after the other."""
        m, d = self.R.shape[-2], self.diffuse
        unit = torch.eye(m, dtype=self.R.dtype, device=self.R.device)
        C = torch.zeros_like(self.F[0, ..., :m])
        whiten = unit.expand(*C.shape[:-2], m, m)
        P, determinant = self.S[0], 2.0 * self.deviations.abs().log().sum((0, 1))
        if d:
            fixing = self.R[0, ..., :d, :d]
            C[..., :d] = torch.linalg.solve_triangular(fixing, self.F[0, ..., :d], upper=True, left=False)
            P = triangle(torch.cat([C[..., :d], P], -1).mT)
            whiten = whiten * (torch.arange(m, device=unit.device) >= d)  # what fixes a coefficient is no residual
            determinant = determinant + 2.0 * fixing.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)
        gains, whitens = [C], [whiten]
        for g in range(1, len(self.F)):
            top = torch.cat([self.R[g] @ P, unit.expand(*P.shape[:-2], m, m), torch.zeros_like(P[..., :m, :])], -1)
            bottom = torch.cat([self.F[g] @ P, torch.zeros_like(P[..., :m]), self.S[g]], -1)
            whole = triangle(torch.cat([top, bottom], -2).mT)
            L, P = whole[..., :m, :m], whole[..., m:, m:]
            whitens.append(torch.linalg.solve_triangular(L, unit.expand_as(L), upper=False))
            gains.append(whole[..., m:, :m] @ whitens[-1])
            determinant = determinant + 2.0 * L.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)
        self.C, self.whiten = torch.stack(gains), torch.stack(whitens)
        self.variance, self.log_determinant = P[..., -1, :].square().sum(-1), determinant

    def sweep_back(self) -> None:
        """The weights: dE[integral]/dy, from the last state backwards."""
        v = torch.zeros_like(self.F[0, ..., :1, :])
        v[..., -1] = 1.0
        ends, corrections = [], []
        for g in reversed(range(len(self.F))):
            u = v @ self.C[g]
            ends.append(v)
            corrections.append(u @ self.Q[g].mT)
            v = v @ self.F[g] - u @ self.R[g]
        v = torch.stack(ends[::-1])  # [G, ..., 1, n]
        z = torch.stack(corrections[::-1]).squeeze(-2).movedim(-1, 0) / self.deviations  # [q, G, ...]
        weights = []
        for j in reversed(range(self.length)):
            w = v @ self.gains[j] + z[j, ..., None, None]
            v[..., :1] -= w
            v = v @ self.A[j]
            weights.append(w[..., 0, 0])
        found = torch.stack(weights[::-1]).movedim((0, 1), (-1, -2)).flatten(-2)[..., : self.count]
        self.weights = torch.where(self.observed, found, 0.0)

    def squares(self, values: Tensor) -> Tensor:  # [..., N] -> [...]
        """y'K^-1 y; with diffuse coefficients, its least value over them."""
        kept = torch.nn.functional.pad(torch.where(self.observed, values, 0.0), (0, self.pad))
        y = self.chunks(kept, 1)[..., None, None]  # [q, G, ..., 1, 1]
        windows = y.ndim - self.A.ndim  # batch dimensions of the values that the nodes do not have

        def beside(x: Tensor, own: int) -> Tensor:  # [*own, ...] -> [*own, 1, ..., 1, ...]
            return x.reshape(*x.shape[:own], *[1] * windows, *x.shape[own:])

        A, gains, Q = beside(self.A, 2), beside(self.gains, 2), beside(self.Q, 1)
        seen, deviations = beside(self.seen, 2)[..., None, None], beside(self.deviations, 2)[..., None, None]
        R, F, C, whiten = (beside(part, 1) for part in (self.R, self.F, self.C, self.whiten))
        mean = torch.zeros_like(gains[0])
        residuals = []
        for j in range(self.length):
            mean = A[j] @ mean
            off = (y[j] - mean[..., :1, :]) * seen[j]
            mean = mean + gains[j] @ off
            residuals.append((off / deviations[j]).squeeze(-1))
        z = torch.stack(residuals, -2)  # [G, ..., q, 1]
        inside = Q.mT @ z
        total: Tensor = (z - Q @ inside).square().sum((0, -2, -1))
        mu = torch.zeros_like(mean[0])
        for g in range(len(F)):
            off = inside[g] - R[g] @ mu
            mu = F[g] @ mu + mean[g] + C[g] @ off
            total = total + (whiten[g] @ off).square().sum((-2, -1))
        return total


def nodes_to_see(seen: Tensor, count: int) -> int:
    """How many nodes it takes until every window has shown `count` values."""
    fewest = int(seen.sum(-1).min())
    if fewest < count:
        raise ConfigError(
            f"a prior with {count} diffuse coefficients needs as many observed nodes, got a window with {fewest}; "
            "take a lower order or mean degree, or more nodes"
        )
    return int((seen.cumsum(-1) < count).sum(-1).max()) + 1 if count else 1
