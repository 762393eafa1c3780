"""Least-squares q-learning: (J, q) of the policy of the moment as one linear solve, then the policy greedy for q.

    sum_k xi_k { J(X') - J(X) + r dt - (q(X, u) + beta J(X)) dt } = 0,   xi = (phi(X), psi(X, u)),
    J = phi . theta,   q = psi . eta,   E_pi[psi(x, .)] = 0

The increments have mean zero under any behaviour policy of full support when J is the value of pi and q its advantage
rate, so one wide law can gather the rows of every iteration, without importance weights. Linear J and q make the
condition linear: policy iteration by linear solves, as least-squares policy iteration does for big Q.

Here J is quadratic in x and q in (x, u); with v = u - F x - f the deviation from the mean of pi = N(F x + f, Sigma),

    q = -(v'G v - tr G Sigma) / 2 + v'(S x + l);   greedy:  F += G^-1 S,  f += G^-1 l,  Sigma = temperature G^-1.

100 states and 20 actions have 7381 unknowns. The normal matrix is never formed: a product with it costs a few passes
over the rows, and in whitened coordinates GMRES needs some tens of products.
Sources: Jia and Zhou, "q-Learning in continuous time", JMLR 24 (2023) 161, off-policy orthogonality; Lagoudakis and
Parr, "Least-squares policy iteration", JMLR 4, 2003.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, gmres
from torch import Tensor

from rlcore.agents.martingale.online import seconds_of
from rlcore.checks import check_positive, check_shape
from rlcore.data import Transitions
from rlcore.errors import ConfigError, NumericsError
from rlcore.training.agent import Agent, Metrics

BLOCK_ROWS = 1 << 11


@dataclass(frozen=True)
class LeastSquaresQConfig:
    """Settings of `LeastSquaresQ`."""

    discount_rate: float = 0.5
    """beta [1/s]; must be positive."""
    temperature: float = 0.1
    """gamma, the weight of the entropy [reward per second]; the covariance of the policy is gamma G^-1."""
    first_variance: float = 1.0
    """Variance of each action of the first policy, whose mean is 0."""
    tolerance: float = 1e-5
    """Relative residual at which the linear solve stops."""
    products: int = 400
    """Largest number of products with the normal matrix per solve."""


class Whitening(NamedTuple):
    """y = factor^-1 (x - mean): rows of mean zero and unit covariance."""

    mean: Tensor  # [d]
    factor: Tensor  # [d, d] lower triangular

    def forward(self, x: Tensor) -> Tensor:  # [N, d] -> [N, d]
        found: Tensor = torch.linalg.solve_triangular(self.factor, (x - self.mean).T, upper=False)
        return found.T

    def pull(self, right: Tensor) -> Tensor:  # [d, k] -> [d, k]
        """factor^-T right: what multiplies y as coefficients, as coefficients of x - mean."""
        found: Tensor = torch.linalg.solve_triangular(self.factor.T, right, upper=True)
        return found


def whiten(x: Tensor) -> Whitening:  # [N, d]
    """The whitening of these rows, by the Cholesky factor of their covariance."""
    mean = x.mean(0)
    factor, failed = torch.linalg.cholesky_ex((x - mean).T @ (x - mean) / len(x))
    if int(failed) or not bool(factor.isfinite().all()):
        raise NumericsError("the rows must span all states and actions and be finite; gather more, or explore more")
    return Whitening(mean, factor)


class Rows(NamedTuple):
    """Rows in whitened coordinates, ready for products with the normal matrix."""

    here: Tensor  # y [N, n] of the state
    there: Tensor  # y' [N, n] of the next one
    push: Tensor  # v [N, m] of the deviation from the policy's mean
    keep: Tensor  # 1 + beta dt [N]
    alive: Tensor  # [N] 0 where the next state is an end
    dt: Tensor  # [N] s

    def blocks(self) -> Iterator[Rows]:
        """Pieces that stay in the cache."""
        for start in range(0, len(self.dt), BLOCK_ROWS):
            yield Rows(*(column[start : start + BLOCK_ROWS] for column in self))


class Unknowns:
    """J = y'K y / 2 - tr K / 2 + k'y + c and q = v'H v / 2 - tr H sigma / 2 + v'(S y + l) as one vector, and back."""

    def __init__(self, n: int, m: int, sigma: Tensor) -> None:  # sigma [m, m]: E_pi[v v']
        self.n, self.m, self.sigma = n, m, sigma
        self.sizes = [n * n, n, 1, m * m, m * n, m]

    def split(self, w: Tensor) -> tuple[Tensor, ...]:  # [p] -> K, k, c, H, S, l
        K, k, c, H, S, shift = torch.split(w, self.sizes)
        return K.view(self.n, self.n), k, c, H.view(self.m, self.m), S.view(self.m, self.n), shift

    def increments(self, rows: Rows, w: Tensor) -> Tensor:  # [N], [p] -> [N]
        """keep J - alive J' + q dt: minus the increment, without its reward."""
        K, k, c, H, S, shift = self.split(w)
        trace = 0.5 * K.diagonal().sum() - c
        before = ((rows.here @ (0.5 * K) + k) * rows.here).sum(1) - trace
        after = ((rows.there @ (0.5 * K) + k) * rows.there).sum(1) - trace
        slope = rows.push @ (0.5 * H) + rows.here @ S.T + shift  # [N, m]
        q = (slope * rows.push).sum(1) - 0.5 * (H * self.sigma).sum()
        return rows.keep * before - rows.alive * after + rows.dt * q

    def against_tests(self, rows: Rows, values: Tensor) -> Tensor:  # [N] -> [p]
        """sum_k xi_k values_k, xi the monomials that multiply the unknowns."""
        both = torch.cat([rows.here, rows.push], dim=1)
        moments = both.T @ (values.unsqueeze(1) * both)  # [n + m, n + m]
        sums, total, n = values @ both, values.sum(), self.n
        K = 0.5 * (moments[:n, :n] - total * torch.eye(n, dtype=total.dtype, device=total.device))
        H = 0.5 * (moments[n:, n:] - total * self.sigma)
        parts = (K, sums[:n], total, H, moments[n:, :n], sums[n:])
        return torch.cat([part.reshape(-1) for part in parts])


class LeastSquaresQ(Agent[Transitions]):
    """Policy iteration from rows with quadratic J and q; float64.

    The first policy is N(0, first_variance I). J is the value without entropy, which is a constant here. The rows'
    actions, not the policy's, scale the deviations, so that exploration wider than the policy does no harm.
    """

    gain: Tensor  # [m, n]
    offset: Tensor  # [m]
    root: Tensor  # [m, m], Sigma = root root'
    K: Tensor  # [n, n]
    k: Tensor  # [n]
    k0: Tensor  # []

    def __init__(self, state_dim: int, action_dim: int, config: LeastSquaresQConfig = LeastSquaresQConfig()) -> None:
        super().__init__()
        for name in ("discount_rate", "temperature", "first_variance", "tolerance"):
            check_positive(name, getattr(config, name))
        if min(state_dim, action_dim, config.products) < 1:
            raise ConfigError(f"need sizes and products >= 1, got {state_dim}, {action_dim} and {config.products}")
        self.config, self.noise_dim = config, action_dim
        shapes = {"gain": (action_dim, state_dim), "offset": (action_dim,), "K": (state_dim, state_dim)}
        for name, shape in {**shapes, "k": (state_dim,), "k0": ()}.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        first = config.first_variance**0.5 * torch.eye(action_dim, dtype=torch.float64)
        self.register_buffer("root", first)

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        mean = obs.double() @ self.gain.T + self.offset
        return (mean if noise is None else mean + noise.double() @ self.root.T).to(obs.dtype)

    def value(self, obs: Tensor) -> Tensor:  # [..., n] -> [...]
        """J(x)."""
        x = obs.double()
        return 0.5 * ((x @ self.K) * x).sum(-1) + x @ self.k + self.k0

    @torch.no_grad()
    def update(self, batch: Transitions) -> Metrics:
        """Evaluate the policy on these rows, whoever gathered them, and improve it."""
        data = batch.flatten().to(dtype=torch.float64)
        check_shape("observations", data.obs, (len(data.dt), self.gain.shape[1]))
        check_shape("actions", data.action, (len(data.dt), self.gain.shape[0]))
        seconds = seconds_of(data.dt)
        deviation = data.action - data.obs @ self.gain.T - self.offset
        of_state, of_action = whiten(data.obs), whiten(deviation)._replace(mean=torch.zeros_like(self.offset))
        spread = of_action.forward(self.root.T)  # policy's covariance in these coordinates is spread' spread
        unknowns = Unknowns(self.gain.shape[1], self.gain.shape[0], spread.T @ spread)
        rows = Rows(
            of_state.forward(data.obs),
            of_state.forward(data.next_obs),
            of_action.forward(deviation),
            1.0 + self.config.discount_rate * data.dt,
            (data.discount > 0).to(data.dt),
            data.dt,
        )

        def product(w: Tensor) -> Tensor:
            parts = (unknowns.against_tests(part, unknowns.increments(part, w)) for part in rows.blocks())
            return sum(parts, torch.zeros_like(w)) / seconds

        solution, products = self._solve(product, unknowns.against_tests(rows, data.reward) / seconds)
        K, k, c, H, S, shift = unknowns.split(solution)
        self._keep_value(of_state, K, k, c)
        return {"train/products": float(products), **self._improve(of_state, of_action, H, S, shift)}

    def _solve(self, product: Callable[[Tensor], Tensor], target: Tensor) -> tuple[Tensor, int]:
        """GMRES: the solution and how many products it took."""
        count = 0

        def tick(_: object) -> None:
            nonlocal count
            count += 1

        def apply(w: np.ndarray) -> np.ndarray:
            found: np.ndarray = product(torch.from_numpy(np.array(w).reshape(-1)).to(target)).cpu().numpy()
            return found

        restart = min(80, self.config.products)
        solution, info = gmres(
            LinearOperator((len(target), len(target)), matvec=apply, dtype=np.float64),
            target.cpu().numpy(),
            rtol=self.config.tolerance,
            restart=restart,
            maxiter=max(1, self.config.products // restart),
            callback=tick,
            callback_type="pr_norm",
        )
        if info or not np.isfinite(solution).all():
            raise NumericsError(f"the evaluation did not converge in {count} products; gather more rows per update")
        return torch.from_numpy(solution).to(target), count

    def _keep_value(self, of_state: Whitening, K: Tensor, k: Tensor, c: Tensor) -> None:
        """J in the coordinates of the state."""
        mean = of_state.mean
        self.K.copy_(of_state.pull(of_state.pull(0.5 * (K + K.T)).T))
        slope = of_state.pull(k.unsqueeze(1)).squeeze(1)
        self.k.copy_(slope - self.K @ mean)
        self.k0.copy_(c.squeeze() - 0.5 * K.diagonal().sum() - slope @ mean + 0.5 * mean @ self.K @ mean)

    def _improve(self, of_state: Whitening, of_action: Whitening, H: Tensor, S: Tensor, shift: Tensor) -> Metrics:
        """The policy that is greedy for q."""
        G = -of_action.pull(of_action.pull(0.5 * (H + H.T)).T)
        lowest = float(torch.linalg.eigvalsh(G)[0])
        if not lowest > 0.0:
            raise NumericsError(f"q must be concave in the action, got a curvature of {-lowest:.3g}; gather more rows")
        slope = of_state.pull(of_action.pull(S).T).T  # [m, n]
        constant = of_action.pull(shift.unsqueeze(1)).squeeze(1) - slope @ of_state.mean
        step = torch.linalg.solve(G, torch.cat([slope, constant.unsqueeze(1)], dim=1))
        self.gain += step[:, :-1]
        self.offset += step[:, -1]
        inverse = torch.linalg.inv(G)
        self.root.copy_(torch.linalg.cholesky(0.5 * self.config.temperature * (inverse + inverse.T)))
        return {"train/gain_change": step[:, :-1].abs().max(), "train/curvature": lowest}
