"""Bayesian quadrature in O(N): a square-root Kalman filter in two levels, without jitter.

    node     x+ = A x + B e,  y = H x + r e',   one QR:  [H A S, H B, r; A S, B, 0] Q = [s, 0; g, S+],   K = g / s
             residual z = (y - H A m) / s,   m+ = A m + K (y - H A m)
    chunk    of nodes, given its first state x:   z = W x + N(0, 1),   last state = F x + S e
    chain    x ~ P P':   [R P; 1] = Q U,   last state ~ S+ S+' with   [F P U^-1, S] Q' = S+,   R the triangle of W
    weights  v = dE[integral] / dx, from the end backwards:   w = v K,   v <- (v - w H) A
    first    state X u, with u standard normal or without a prior:   z = W X u + N(0, 1),   least squares

The chunks are filtered side by side, each as if its first state were known; the chain finds how far it is; from there
they are filtered side by side again, and once more from where that has led, for the chain takes longer steps than one
node and loses some digits to them. So about 6 sqrt(N) small steps on batches take the place of N, every one on factors,
where what is small keeps its digits. The state before the window is left to the end, for it may be uncertain without
bound. The last component of the state is the integral itself, with its variance as a sum of squares, never c - z'w.

Source: Anderson and Moore, Optimal Filtering, 1979, chapter 6; de Jong, Annals of Statistics 19, 1991, for diffuse
coefficients; Sarkka and Garcia-Fernandez, IEEE Transactions on Automatic Control 66, 2021, for filters in parallel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlcore.functional.quadrature.markov import MarkovPrior, transitions, triangle

FEW = 24
"""Nodes up to which one chunk is the quickest."""
LEAD = 3.0
"""Mean steps from the window back to the state whose prior is used: with fewer the first values are known too well
beside it for y'K^-1 y to keep its digits, with more the weights lose some."""


@dataclass(frozen=True, eq=False)
class Chunks:
    """What one pass over the nodes of all chunks leaves."""

    s: Tensor  # [q, G, ...], standard deviations
    K: Tensor  # [q, G, ..., n, 1], gains
    W: Tensor  # [G, ..., q, n], residuals over the first state
    F: Tensor  # [G, ..., n, n], last state over the first state
    S: Tensor  # [G, ..., n, n], factor of the last state's covariance


class SquareRootFilter:
    """One window's posterior; batches of windows, length scales and masks stand in the leading dimensions.

    `times` [..., N], `start` and `end` [..., 1] in seconds; `rate` [...] turns seconds into the prior's time; `noise`
    is the variance of a measurement beside the prior's unit; `observed` is bool [..., N] or None.
    """

    weights: Tensor  # [..., N], in the prior's time
    variance: Tensor  # [...], of the integral
    degrees: Tensor  # [...], values observed less diffuse coefficients
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
        self.shape, self.count, self.observed = shape, times.shape[-1], seen
        self.degrees = seen.sum(-1) - prior.diffuse.shape[-1]
        self.length = self.count + 1 if self.count <= FEW else math.isqrt(self.count) + 1
        self.pad = -(self.count + 1) % self.length + 1  # steps to the end of the window, without a value
        first, nodes, last = (part.double().expand(*ends, part.shape[-1]) for part in (start, times, end))
        steps = torch.cat([first, nodes, last.repeat_interleave(self.pad, -1)], -1).diff(dim=-1)
        distinct, which = torch.unique(steps * rate.double().unsqueeze(-1), return_inverse=True)  # few on even nodes
        A, B = (part.to(times.dtype) for part in transitions(prior, distinct))
        self.A, self.B = (self.chunks(part[which.expand(*shape, -1)], 3) for part in (A, B))
        self.seen = self.chunks(torch.nn.functional.pad(seen, (0, self.pad)).expand(*shape, -1), 1)
        self.error = torch.where(self.seen, noise.to(times.dtype).sqrt(), 1.0)  # a value that is not seen is noise
        self.known = self.seen & (noise == 0.0)  # then l itself is
        S = torch.zeros_like(self.B[0])
        before, S[0] = self.begin(prior, LEAD * (nodes[..., -1] - nodes[..., 0]) * rate.double() / self.count)
        self.found = self.filter(S)
        if len(S) > 1:  # from where the chain says, and then from where that pass arrives, as exact as node by node
            self.found = self.filter(torch.cat([S[:1], self.chain(self.found)]))
            self.found = self.filter(torch.cat([S[:1], self.found.S[:-1]]))
        unknown = torch.cat([prior.proper, prior.diffuse], -1).to(rate)
        powers = torch.arange(prior.diffuse.shape[-1], dtype=rate.dtype, device=rate.device)
        per_second = torch.nn.functional.pad(rate[..., None] ** -powers, (prior.proper.shape[-1], 0), value=1.0)
        self.settle((before @ unknown * per_second.unsqueeze(-2)).to(S.dtype), prior.proper.shape[-1])
        self.sweep_back()

    def chunks(self, x: Tensor, trailing: int) -> Tensor:  # [..., steps, *] -> [q, G, ..., *]
        """Steps by their place in a chunk and their chunk."""
        batch, rest = x.shape[:-trailing], x.shape[x.ndim - trailing + 1 :]
        return x.reshape(*batch, -1, self.length, *rest).movedim((-trailing, -trailing - 1), (0, 1))

    def begin(self, prior: MarkovPrior, step: Tensor) -> tuple[Tensor, Tensor]:
        """The state at the window's start from that some steps earlier, and a factor of the covariance it then has.

        Given that earlier state all is regular, whatever its prior: even the first value keeps some variance.
        """
        A, B = transitions(prior, step)
        A[..., -1, :], B[..., -1, :] = 0.0, 0.0  # the integral begins with the window
        return A, B

    def filter(self, S: Tensor) -> Chunks:  # [G, ..., n, n]
        """All chunks side by side, from factors of the covariance of their first states."""
        F = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device).repeat(*S.shape[:-2], 1, 1)
        deviations, gains, sensitivities = [], [], []
        for j in range(self.length):
            seen, error, known = (part[j, ..., None, None] for part in (self.seen, self.error, self.known))
            state = torch.cat([self.A[j] @ S, self.B[j]], -1)
            value = torch.cat([state[..., :1, :] * seen, error], -1)
            whole = triangle(torch.cat([value, torch.nn.functional.pad(state, (0, 1))], -2).mT)
            s, gain, S = whole[..., :1, :1], whole[..., 1:, :1] / whole[..., :1, :1], whole[..., 1:, 1:]
            F = self.A[j] @ F
            row = F[..., :1, :] * seen
            F = F - gain @ row
            S[..., :1, :].masked_fill_(known, 0.0)  # what rounding leaves where nothing is unknown
            F[..., :1, :].masked_fill_(known, 0.0)
            deviations.append(s[..., 0, 0])
            gain[..., :1, :].masked_fill_(known, 1.0)
            gains.append(gain)
            sensitivities.append((row / s).squeeze(-2))
        return Chunks(torch.stack(deviations), torch.stack(gains), torch.stack(sensitivities, -2), F, S)

    def chain(self, given: Chunks) -> Tensor:  # -> [G - 1, ..., n, n]
        """Factors of the covariance of the later chunks' first states, from what each tells and adds on its own."""
        R = torch.linalg.qr(given.W, mode="r").R
        unit = torch.eye(given.S.shape[-1], dtype=R.dtype, device=R.device).expand_as(given.S[0])
        P = given.S[0]
        factors = [P]
        for g in range(1, len(given.S) - 1):
            U = torch.linalg.qr(torch.cat([R[g] @ P, unit], -2), mode="r").R
            after = given.F[g] @ torch.linalg.solve_triangular(U, P, upper=True, left=False)
            P = triangle(torch.cat([after, given.S[g]], -1).mT)
            factors.append(P)
        return torch.stack(factors)

    def settle(self, X: Tensor, proper: int) -> None:
        """The first state X u by least squares; u has as many entries of unit variance as told, the others of infinite.

        Every residual is z - W X u, and the `proper` entries of u count as residuals too.
        """
        s, W, F, S = self.found.s, self.found.W, self.found.F, self.found.S
        X, columns = X.expand(*S.shape[1:-1], -1), []
        ridge = torch.eye(proper, X.shape[-1], dtype=X.dtype, device=X.device).expand(*X.shape[:-2], proper, -1)
        for g in range(len(F)):
            columns.append(W[g] @ X)
            X = F[g] @ X
        rows = torch.stack(columns).movedim(0, -3).flatten(-3, -2)  # [..., G q, u]
        self.Q, R = torch.linalg.qr(torch.cat([rows, ridge], -2))
        share = torch.linalg.solve_triangular(R, X[..., -1:, :], upper=True, left=False)  # [..., 1, u]
        self.correction = share @ self.Q[..., : rows.shape[-2], :].mT  # of the integral, [..., 1, G q]
        self.variance = S[-1, ..., -1, :].square().sum(-1) + share.square().sum((-2, -1))
        diagonal = R.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)
        self.log_determinant = 2.0 * (s.abs().log().sum((0, 1)) + diagonal)

    def sweep_back(self) -> None:
        """The weights: dE[integral]/dy."""
        s, K, W, F = self.found.s, self.found.K, self.found.W, self.found.F
        by_chunk = (*self.correction.shape[:-1], len(F), self.length)
        extra = self.correction.reshape(by_chunk).movedim(-2, 0)  # [G, ..., 1, q]
        v = torch.zeros_like(F[0, ..., :1, :])
        v[..., -1] = 1.0
        ends = []
        for g in reversed(range(len(F))):
            ends.append(v)
            v = v @ F[g] - extra[g] @ W[g]
        v, weights = torch.stack(ends[::-1]), []  # [G, ..., 1, n]
        for j in reversed(range(self.length)):
            slopes = v[..., 1:] @ K[j, ..., 1:, :] + extra[..., j, None] / s[j, ..., None, None]
            weights.append((v[..., :1] * K[j, ..., :1, :] + slopes)[..., 0, 0])
            v = torch.cat([v[..., :1] * (1.0 - K[j, ..., :1, :]) - slopes, v[..., 1:]], -1) @ self.A[j]
        found = torch.stack(weights[::-1]).movedim((0, 1), (-1, -2)).flatten(-2)[..., : self.count]
        self.weights = torch.where(self.observed, found, 0.0)

    def squares(self, values: Tensor) -> Tensor:  # [..., N] -> [...]
        """y'K^-1 y, with diffuse coefficients its least value over them; values may have further leading dimensions."""
        s, K, W, F = self.found.s, self.found.K, self.found.W, self.found.F
        further = values.shape[: max(0, values.ndim - 1 - len(self.shape))]  # their windows become the columns M below
        kept = torch.where(self.observed, values, 0.0).reshape(-1, *values.shape[len(further) :])
        y = self.chunks(torch.nn.functional.pad(kept.movedim(0, -1), (0, 0, 0, self.pad)), 2)  # [q, G, ..., M]
        mean, residuals = torch.zeros_like(K[0]), []
        for j in range(self.length):
            mean = self.A[j] @ mean  # [G, ..., n, M]
            off = (y[j].unsqueeze(-2) - mean[..., :1, :]) * self.seen[j, ..., None, None]
            mean = mean + K[j] @ off
            residuals.append((off / s[j, ..., None, None]).squeeze(-2))
        z, mu, found = torch.stack(residuals, -2), torch.zeros_like(mean[0]), []  # [G, ..., q, M]
        for g in range(len(F)):
            found.append(z[g] - W[g] @ mu)
            mu = F[g] @ mu + mean[g]
        residual = torch.stack(found).movedim(0, -3).flatten(-3, -2)
        residual = torch.nn.functional.pad(residual, (0, 0, 0, self.Q.shape[-2] - residual.shape[-2]))
        left: Tensor = residual - self.Q @ (self.Q.mT @ residual)
        total = left.square().sum(-2).movedim(-1, 0)  # [M, ...]
        return total.reshape((*further, *total.shape[1:]))
