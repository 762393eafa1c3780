"""The exact equilibrium of a regularised preference game, by Newton's method on its moments.

    z = W^T pi(z),     pi(z) = mu exp(W J z / beta) / Z

is the fixed point in r unknowns. Its derivative I - S / beta, with S = cov J the sensitivity, has eigenvalues
1 + i omega, for cov is positive and J skew: it is never singular, and a step that is short enough always helps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlcore.errors import NumericsError
from rlcore.functional.games.regularised import PreferenceGame

STEPS, HALVINGS = 200, 30
ENOUGH = 1e-6
"""The span of the residual [nats] above which the solver has failed; it usually ends near 1e-14 / beta."""


@torch.no_grad()
def equilibrium(game: PreferenceGame, start: Tensor | None = None) -> Tensor:  # [..., n] -> [..., n]
    """log pi*, to rounding; every game of a batch takes its own step lengths. `start` is a first guess of it.

    Costs O(r^3 + n r^2) per step and five to a hundred steps, the more the smaller beta; for a matrix r = n.
    """
    preference, log_mu = game.preference, game.log_reference

    def policy_at(z: Tensor) -> Tensor:
        return game.respond(preference.lift(z))

    def look(z: Tensor) -> tuple[Tensor, Tensor]:  # [..., r] -> [..., r], [...]
        """W^T pi(z) - z, and the span of its residual in log-probabilities times beta."""
        off = preference.reduce(policy_at(z).exp()) - z
        change = preference.lift(off)
        return off, change.amax(-1) - change.amin(-1)

    z = preference.reduce((log_mu if start is None else start).exp())
    off, span = look(z)
    floor = 500.0 * torch.finfo(span.dtype).eps  # where rounding decides, shorter steps are of no use
    for _ in range(STEPS):
        policy = policy_at(z).exp()
        answer = preference.sensitivity(policy) / matrix_beta(game.beta)
        eye = torch.eye(answer.shape[-1], dtype=answer.dtype, device=answer.device)
        direction = torch.linalg.solve(eye - answer, off.unsqueeze(-1)).squeeze(-1)
        length, better = torch.ones_like(span), torch.zeros_like(span, dtype=torch.bool)
        for _ in range(HALVINGS):
            new_off, new_span = look(z + length.unsqueeze(-1) * direction)
            better = new_span <= (1.0 - 0.1 * length) * span
            if bool((better | (span <= floor)).all()):
                break
            length = torch.where(better, length, 0.5 * length)
        if not bool(better.any()):
            break
        moved = better.unsqueeze(-1)
        z = torch.where(moved, z + length.unsqueeze(-1) * direction, z)
        off, span = torch.where(moved, new_off, off), torch.where(better, new_span, span)
    worst = float((span.unsqueeze(-1) / game.beta).max())
    if not worst <= ENOUGH:
        raise NumericsError(f"no equilibrium to {ENOUGH} nats, got {worst:.3g}; use float64 or a larger beta")
    return policy_at(z)


def matrix_beta(beta: float | Tensor) -> float | Tensor:
    """beta beside matrices [..., r, r]."""
    return beta.unsqueeze(-1) if isinstance(beta, Tensor) and beta.dim() else beta
