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

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, gmres
from torch import Tensor

from rlcore.checks import check_positive
from rlcore.data import Transitions
from rlcore.errors import ConfigError, NumericsError
from rlcore.training.agent import Agent, Metrics


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


class Quadratic(NamedTuple):
    """y'K y / 2 - tr K / 2 + k'y of whitened rows, and its adjoint: weighted sums of the monomials over the rows."""

    y: Tensor  # [N, d]

    def apply(self, K: Tensor, k: Tensor) -> Tensor:  # [d, d], [d] -> [N]
        return 0.5 * ((self.y @ K) * self.y).sum(1) - 0.5 * K.diagonal().sum() + self.y @ k

    def adjoint(self, w: Tensor) -> tuple[Tensor, Tensor]:  # [N] -> [d, d], [d]
        gram = self.y.T @ (w.unsqueeze(1) * self.y) - w.sum() * torch.eye(self.y.shape[1], dtype=w.dtype)
        return 0.5 * gram, self.y.T @ w


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
        rows = batch.flatten().to(dtype=torch.float64)
        x, u, after, reward, dt, alive = rows.obs, rows.action, rows.next_obs, rows.reward, rows.dt, rows.discount
        alive = (alive > 0).double()
        deviation = u - x @ self.gain.T - self.offset
        of_state, of_action = whiten(x), whiten(deviation)._replace(mean=torch.zeros_like(self.offset))
        here, there = Quadratic(of_state.forward(x)), Quadratic(of_state.forward(after))
        v = of_action.forward(deviation)  # [N, m]
        spread = of_action.forward(self.root.T)  # policy's covariance in these coordinates is spread' spread
        sigma = spread.T @ spread
        n, m = self.gain.shape[1], self.gain.shape[0]
        sizes = (n * n, n, 1, m * m, m * n, m)

        def evaluate(w: Tensor) -> tuple[Tensor, ...]:
            K, k, c, H, S, push = torch.split(w, list(sizes))
            K, H, S = K.view(n, n), H.view(m, m), S.view(m, n)
            before, behind = here.apply(K, k) + c, (there.apply(K, k) + c) * alive
            q = 0.5 * ((v @ H) * v).sum(1) - 0.5 * (H * sigma).sum() + ((here.y @ S.T + push) * v).sum(1)
            return before, behind, q

        def test(w: Tensor) -> Tensor:  # sum_k xi_k w_k
            K, k = here.adjoint(w)
            weighted = w.unsqueeze(1) * v
            H = 0.5 * (v.T @ weighted - w.sum() * sigma)
            parts = (K, k, w.sum(), H, weighted.T @ here.y, weighted.sum(0))
            return torch.cat([part.reshape(-1) for part in parts])

        def product(w: np.ndarray) -> np.ndarray:
            before, behind, q = evaluate(torch.from_numpy(np.ascontiguousarray(w)).reshape(-1))
            found: np.ndarray = test((1.0 + self.config.discount_rate * dt) * before - behind + q * dt).numpy()
            return found / seconds

        seconds, count = float(dt.sum()), 0

        def tick(_: object) -> None:
            nonlocal count
            count += 1

        size = sum(sizes)
        operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
        target = test(reward).numpy() / seconds
        restart = min(80, self.config.products)
        solution, info = gmres(
            operator,
            target,
            rtol=self.config.tolerance,
            restart=restart,
            maxiter=max(1, self.config.products // restart),
            callback=tick,
            callback_type="pr_norm",
        )
        if info or not np.isfinite(solution).all():
            raise NumericsError(f"the evaluation did not converge in {count} products; gather more rows per update")
        K, k, c, H, S, push = torch.split(torch.from_numpy(solution), list(sizes))
        self._keep_value(of_state, K.view(n, n), k, c)
        return {"train/products": float(count), **self._improve(of_state, of_action, H.view(m, m), S.view(m, n), push)}

    def _keep_value(self, of_state: Whitening, K: Tensor, k: Tensor, c: Tensor) -> None:
        """J in the coordinates of the state."""
        mean = of_state.mean
        self.K.copy_(of_state.pull(of_state.pull(0.5 * (K + K.T)).T))
        slope = of_state.pull(k.unsqueeze(1)).squeeze(1)
        self.k.copy_(slope - self.K @ mean)
        self.k0.copy_(c.squeeze() - 0.5 * K.diagonal().sum() - slope @ mean + 0.5 * mean @ self.K @ mean)

    def _improve(self, of_state: Whitening, of_action: Whitening, H: Tensor, S: Tensor, push: Tensor) -> Metrics:
        """The policy that is greedy for q."""
        G = -of_action.pull(of_action.pull(0.5 * (H + H.T)).T)
        lowest = float(torch.linalg.eigvalsh(G)[0])
        if not lowest > 0.0:
            raise NumericsError(f"q must be concave in the action, got a curvature of {-lowest:.3g}; gather more rows")
        slope = of_state.pull(of_action.pull(S).T).T  # [m, n]
        constant = of_action.pull(push.unsqueeze(1)).squeeze(1) - slope @ of_state.mean
        step = torch.linalg.solve(G, torch.cat([slope, constant.unsqueeze(1)], dim=1))
        self.gain += step[:, :-1]
        self.offset += step[:, -1]
        inverse = torch.linalg.inv(G)
        self.root.copy_(torch.linalg.cholesky(0.5 * self.config.temperature * (inverse + inverse.T)))
        return {"train/gain_change": step[:, :-1].abs().max(), "train/curvature": lowest}
