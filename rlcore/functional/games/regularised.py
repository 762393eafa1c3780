"""The regularised preference game: two players, one policy class, and a reference that both are held to.

    J(pi, pi') = pi^T P pi' - beta KL(pi | mu) + beta KL(pi' | mu),     J(pi, pi') + J(pi', pi) = 1

There is one equilibrium (pi*, pi*), of value 1/2, and log pi* = log mu + P pi* / beta - const. It is the von Neumann
winner as beta -> 0, and with a uniform mu the logit quantal response equilibrium at temperature beta.
Policies are normalised log-probabilities [..., n]; leading dimensions are games side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.errors import ConfigError, ShapeError
from rlcore.functional.divergence import kl
from rlcore.functional.games.preferences import MatrixPreference, Preference

NORMALISED = 1e-4
"""How far the probabilities of a reference may be from a sum of 1."""


@dataclass(frozen=True, eq=False)
class PreferenceGame:
    """A preference, a reference policy and the strength of the pull to it."""

    preference: Preference
    log_reference: Tensor
    """log mu [..., n], of full support."""
    beta: float | Tensor
    """Strength of the regularisation, in units of the preference: one number, or one for each game [..., 1]."""

    def __post_init__(self) -> None:
        check_beta(self.beta)
        log_mu = self.log_reference
        if log_mu.dim() < 1 or log_mu.shape[-1] != self.preference.actions:
            raise ShapeError(f"the reference must be [..., n = {self.preference.actions}], got {list(log_mu.shape)}")
        if log_mu.dtype != self.preference.dtype:
            raise ConfigError(f"the reference must be {self.preference.dtype} like the preferences, got {log_mu.dtype}")
        sizes = [self.preference.games, tuple(log_mu.shape[:-1])]
        sizes += [tuple(self.beta.shape[:-1])] if isinstance(self.beta, Tensor) else []
        if not side_by_side(sizes):
            raise ShapeError(f"preferences, references and beta must be of as many games, got {sizes}")
        if not bool(torch.isfinite(log_mu).all()):
            where = torch.nonzero(~torch.isfinite(log_mu))[0].tolist()
            raise ConfigError(
                f"the reference must have full support, got log-probability {log_mu[tuple(where)].item()} at {where}; "
                "mix it with the uniform policy"
            )
        total = log_mu.logsumexp(-1).exp()
        if float((total - 1.0).abs().max()) > NORMALISED:
            raise ConfigError(f"the reference must sum to 1, got {float(total.flatten()[0]):.6g}; use log_softmax")

    @classmethod
    def of(cls, table: Tensor, beta: float | Tensor, reference: Tensor | None = None) -> PreferenceGame:
        """A game from a matrix [..., n, n] and probabilities [..., n]; uniform without a reference."""
        preference = MatrixPreference(table)
        uniform = table.new_full(table.shape[:-1], 1.0 / table.shape[-1])
        return cls(preference, (uniform if reference is None else reference).log(), beta)

    def payoffs(self, log_policy: Tensor) -> Tensor:  # [..., n] -> [..., n]
        """P pi, the one thing that is asked of the preference: a query."""
        return self.preference(log_policy.exp())

    def value(self, first: Tensor, second: Tensor) -> Tensor:  # [..., n], [..., n] -> [...]
        """J(pi, pi'), what the first player gets."""
        wins = (first.exp() * self.payoffs(second)).sum(-1)
        pull = kl(second, self.log_reference) - kl(first, self.log_reference)
        return wins + per_game(self.beta) * pull

    def respond(self, payoffs: Tensor) -> Tensor:  # [..., n] -> [..., n]
        """log of mu exp(payoffs / beta) / Z, the best policy against an opponent with these payoffs."""
        return torch.log_softmax(self.log_reference + payoffs / self.beta, -1)

    def best_response(self, log_policy: Tensor) -> Tensor:  # [..., n] -> [..., n]
        """The policy that does best against this one."""
        return self.respond(self.payoffs(log_policy))

    def mixture(self, anchor: Tensor, weight: float | Tensor) -> Tensor:  # [..., n] -> [..., n]
        """(beta log mu + weight log anchor) / (beta + weight), not normalised: where both pulls together lead."""
        return torch.lerp(self.log_reference, anchor, weight / (self.beta + weight))

    def proximal(self, payoffs: Tensor, anchor: Tensor, weight: float | Tensor) -> Tensor:  # [..., n] -> [..., n]
        """argmax over pi of <pi, payoffs> - beta KL(pi | mu) - weight KL(pi | anchor)."""
        return torch.log_softmax(scaled_sum(self.mixture(anchor, weight), payoffs, 1.0 / (self.beta + weight)), -1)

    def anchored(self, anchor: Tensor, weight: float | Tensor) -> PreferenceGame:
        """The game with weight KL( | anchor) added to both pulls: of strength beta + weight, with another reference."""
        mixed = torch.log_softmax(self.mixture(anchor, weight), -1)
        return PreferenceGame(self.preference, mixed, self.beta + weight)

    def gap(self, log_policy: Tensor) -> Tensor:  # [..., n] -> [...]
        """max over pi' of J(pi', pi) - 1/2, the regularised exploitability, as beta KL(pi | best response to pi).

        Because pi^T P pi = 1/2 this is beta log sum mu exp(P pi / beta) + beta KL(pi | mu) - 1/2, without its
        cancellation. The duality gap of (pi, pi), which some papers report, is twice as large.
        """
        return per_game(self.beta) * kl(log_policy, self.best_response(log_policy))

    def duality_gap(self, log_policy: Tensor) -> Tensor:  # [..., n] -> [...]
        """max over pi' of J(pi', pi) - min over pi' of J(pi, pi')."""
        return 2.0 * self.gap(log_policy)

    def exploitability(self, log_policy: Tensor) -> Tensor:  # [..., n] -> [...]
        """max P pi - 1/2 of the game without regularisation; OpenSpiel's `exploitability` for the payoff P - 1/2."""
        return self.payoffs(log_policy).amax(-1) - 0.5

    def residual(self, log_policy: Tensor) -> Tensor:  # [..., n] -> [..., n]
        """log BR(pi) - log pi, zero at the equilibrium and there only."""
        return self.best_response(log_policy) - log_policy

    def divergence_bound(self, log_policy: Tensor) -> Tensor:  # [..., n] -> [...]
        """At least D = KL(pi* | pi) + KL(pi | pi*), without knowing pi*: the less of span(r)^2 / 4 and kappa Var_pi(r).

        P cancels from D = <pi* - pi, log pi* - log pi>, which leaves <pi* - pi, r> with r the residual. That is at most
        |pi* - pi|_1 span(r) / 2 <= sqrt(D) span(r) / 2 by Pinsker's inequality for both, and sqrt(chi^2 Var_pi(r))
        where chi^2(pi* | pi) <= kappa D, kappa = (e^s - 1) / s: no log-ratio is beyond s = (1 + 1 / (2 beta)) span(r).
        """
        residual, policy = self.residual(log_policy), log_policy.exp()
        span = residual.amax(-1) - residual.amin(-1)
        mean = (policy * residual).sum(-1, keepdim=True)
        variance = (policy * (residual - mean).square()).sum(-1)
        far = (1.0 + 0.5 / per_game(self.beta)) * span
        inside = far.clamp(1e-6, 50.0)
        near = torch.expm1(inside) / inside * variance
        return torch.where(far < 50.0, torch.minimum(0.25 * span.square(), near), 0.25 * span.square())

    def select(self, games: slice) -> PreferenceGame:
        """Some of the games that lie side by side in the first dimension."""
        beta = (
            self.beta if isinstance(self.beta, float | int) or self.beta.shape[:-1].numel() == 1 else self.beta[games]
        )
        return PreferenceGame(self.preference.select(games), self.log_reference[games], beta)


def side_by_side(sizes: list[tuple[int, ...]]) -> bool:
    """Whether these leading dimensions go together."""
    try:
        torch.broadcast_shapes(*sizes)  # type: ignore[no-untyped-call]
    except RuntimeError:
        return False
    return True


def scaled_sum(x: Tensor, y: Tensor, scale: float | Tensor) -> Tensor:  # [..., n], [..., n] -> [..., n]
    """x + scale y, in one pass where the scale is a number."""
    return x + scale * y if isinstance(scale, Tensor) else torch.add(x, y, alpha=scale)


def per_game(beta: float | Tensor) -> float | Tensor:
    """beta beside one number per game [...] rather than beside policies [..., n]."""
    return beta.squeeze(-1) if isinstance(beta, Tensor) and beta.dim() else beta


def check_beta(beta: float | Tensor) -> None:
    """Raise unless the strength is positive."""
    if isinstance(beta, Tensor) and beta.dim() and beta.shape[-1] != 1:
        raise ShapeError(f"beta must be a number or [..., 1], one for each game, got {list(beta.shape)}")
    low, high = (float(beta.min()), float(beta.max())) if isinstance(beta, Tensor) else (beta, beta)
    if not 0.0 < low <= high < float("inf"):
        raise ConfigError(f"beta must be positive and finite, got {low}; without it the equilibrium is not unique")
