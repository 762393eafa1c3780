"""A first stabilising gain when none is known: continuous-time value iteration on the data integrals.

    P_{k+1} = P_k + eps_k (H(P_k) + Q - K'R K),   H(P) = A'P + P A,   K(P) = R^-1 B'P

Neither A nor B is known, but H and K are linear in P, and so is what every window says of them:

    x'P x |_t^{t+T} = int x'H(P) x + 2 int u'R K(P) x,   hence   (H, K) = M P   with one matrix M, found once

The same M gives the Lyapunov operator of the closed loop, X -> H(X) - K(X)'R K - K'R K(X), whose eigenvalues are the
sums of two eigenvalues of A - B K. So the data themselves tell when a gain stabilises; its norm bounds the step.
Source: Bian and Jiang, Automatica 71, 2016, algorithm 2. There the steps fall like 1 / k and the iterate is put back
when it leaves a growing ball; here the norm of the operator, which the data give as well, bounds the step instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.agents.integral_rl.data_integrals import DataIntegrals, check_excited, check_windows
from rlcore.checks import check_integer, check_positive
from rlcore.errors import ConfigError, NumericsError, ShapeError
from rlcore.functional.bases import half_vector
from rlcore.functional.least_squares import LeastSquares, least_squares

LOOK = 20
"""Steps between two looks at the closed loop."""


@dataclass(frozen=True)
class ValueIterationConfig:
    """Settings of `stabilising_gain`."""

    first: float = 1.0
    """P_0 = first I."""
    step: float = 0.5
    """eps_k times the norm of the closed loop's Lyapunov operator, in (0, 1]."""
    steps: int = 20_000
    """Largest number of steps."""
    margin: float = 1e-3
    """How fast the slowest mode of the closed loop must decay, by the data [1/s]."""


@dataclass(frozen=True, eq=False)
class LinearModel:
    """What the windows say of H and K, as linear maps of half vectors of P; for one problem, float64."""

    fit: LeastSquares
    flow: Tensor  # [n, n, p]: H of each unit half vector
    pull: Tensor  # [m, n, p]: R K of each

    def lyapunov(self, gain: Tensor) -> Tensor:  # [m, n] -> [p, p]
        """X -> (A - B K)'X + X (A - B K) on half vectors; its eigenvalues are sums of two of A - B K."""
        cross = torch.einsum("mip,mj->ijp", self.pull, gain)
        return half_vector((self.flow - cross - cross.transpose(0, 1)).movedim(-1, 0)).T

    def growth(self, gain: Tensor) -> Tensor:  # [m, n] -> []
        """Largest real part of the eigenvalues of A - B K, by the data [1/s]."""
        values: Tensor = torch.linalg.eigvals(self.lyapunov(gain))
        return 0.5 * values.real.max()


@dataclass(frozen=True, eq=False)
class FirstGain:
    """What value iteration found."""

    gain: Tensor  # K [m, n]; u = -K x stabilises
    value: Tensor  # P [n, n] of the last step, not yet the value of anything
    steps: int
    growth: float
    """Largest real part of the closed loop's eigenvalues, by the data [1/s]."""


def linear_model(data: DataIntegrals) -> LinearModel:
    """M from windows of a linear system: value features `bases.quadratic`, actor features x, no discount."""
    n, m = data.actions.shape[-2:]
    p = n * (n + 1) // 2
    if data.change.ndim != 2 or data.change.shape[-1] != p or data.features.shape[-1] != n:
        raise ShapeError(
            f"value iteration is for one linear system of {n} states: the value needs the {p} features of "
            f"`quadratic({n})` and the actor the state itself, got {data.change.shape[-1]} and {n}"
        )
    check_windows(data)
    double = 2.0 - torch.eye(n, dtype=data.cost.dtype, device=data.cost.device)
    i, j = torch.triu_indices(n, n, device=data.cost.device)
    state = (data.features * double)[..., i, j]  # int x'H x = state . upper(H)
    action = 2.0 * data.actions.mT.flatten(-2)  # 2 int u'(R K) x
    fit = least_squares(torch.cat([state, action], -1).unsqueeze(0), data.change.mT)  # one problem for each feature
    check_excited(fit)
    found = fit.solution  # [p, p + m n]
    flow = found.new_zeros(p, n, n)
    flow[:, i, j] = flow[:, j, i] = found[:, :p]
    return LinearModel(fit, flow.movedim(0, -1), found[:, p:].reshape(p, m, n).movedim(0, -1))


def stabilising_gain(
    data: DataIntegrals,
    state_weight: Tensor,
    control_weight: Tensor,
    config: ValueIterationConfig = ValueIterationConfig(),
) -> FirstGain:
    """Value iteration until the data say that u = -K x stabilises with the margin asked for.

    Raises `NumericsError` where that is not reached, with the best that was seen.
    """
    check_config(config)
    model = linear_model(data)
    n = state_weight.shape[-1]
    P = config.first * torch.eye(n, dtype=data.cost.dtype, device=data.cost.device)
    best = torch.inf
    for k in range(config.steps + 1):
        half = half_vector(P)
        price = model.pull @ half  # R K
        gain = torch.linalg.solve(control_weight, price)
        operator = model.lyapunov(gain)
        if k % LOOK == 0:
            growth = float(0.5 * torch.linalg.eigvals(operator).real.max()) if bool(P.isfinite().all()) else torch.inf
            best = min(best, growth)
            if growth <= -config.margin:
                return FirstGain(gain, P, k, growth)
            if growth == torch.inf:
                break
        step = config.step / torch.linalg.matrix_norm(operator)
        P = P + step * (model.flow @ half + state_weight - gain.mT @ price)
    raise NumericsError(
        f"value iteration found no gain whose closed loop decays at {config.margin:.3g} 1/s in {k} steps; the best, by "
        f"the data, leaves a mode at {best:+.3g} 1/s. Allow more steps, gather better excited windows, or check that "
        "the input acts on every unstable mode"
    )


def check_config(config: ValueIterationConfig) -> None:
    """Raise unless every setting is in its range."""
    check_positive("first", config.first)
    check_positive("margin", config.margin, "1/s")
    check_integer("steps", config.steps)
    if not 0.0 < config.step <= 1.0 or config.steps < 1:
        raise ConfigError(f"need 0 < step <= 1 and steps >= 1, got {config.step} and {config.steps}")
