"""Problems made by the converse construction: the optimal value was chosen first."""

from __future__ import annotations

import torch
from torch import Tensor

from rlcore.envs.affine.control_affine import AffineConfig, ControlAffine
from rlcore.envs.affine.converse import converse
from rlcore.envs.affine.problem import Basis
from rlcore.functional.bases import Monomials, quadratic

QUARTIC_VALUE = AffineConfig(dt=0.02, substeps=8, horizon=10.0, action_bound=4.0, start=1.0, escape=4.0)
HYPERBOLIC_VALUE = AffineConfig(dt=0.02, substeps=8, horizon=10.0, action_bound=4.0, start=1.0, escape=2.5)
TWO_INPUTS = AffineConfig(dt=0.02, substeps=12, horizon=10.0, action_bound=4.0, start=1.0, escape=4.0)
SATURATED_INPUT = AffineConfig(dt=0.05, substeps=8, horizon=10.0, action_bound=0.5, start=2.0)

ONE = ((1.0,),)
TURN = ((0.0, 1.0), (-1.0, 0.0))
HALF_QUARTER = ((0.5, 0.0), (0.0, 0.25))
SECOND = ((0.0,), (1.0,))


class QuarticValue(ControlAffine):
    """A polynomial system of third degree with an optimal value of fourth degree.

    ## Dynamics
    dx1 = (-x1 + x2 + x1^2 x2 - x1^3 / 2 - x1 x2^2 / 2 + x2^3) dt
    dx2 = (-2 x1 - x1^3 - x1 x2^2 + u) dt

    ## Observation and action
    | num  | observation | low  | high | unit |     | num | action | low | high | unit |
    |------|-------------|------|------|------|-----|-----|--------|-----|------|------|
    | 0..1 | x           | -inf | inf  | none |     | 0   | u      | -4  | 4    | none |

    The action bounds are declared, not enforced.

    ## Reward
    -(V1^2 / 2 + V2^2 / 4 + u^2) per second, with V1 and V2 the slopes of V*.

    ## Start and end
    x_0 uniform in [-1, 1]^2. Truncated after 10 s; terminates with -V* at |x| = 4.

    ## Closed form
    V* = x1^2 + x2^2 / 2 + (x1^4 + x2^4) / 4 + x1^2 x2^2 / 2, u* = -x2 (1 + x1^2 + x2^2) / 2, in the basis of the
    monomials of degree 2 and 4.

    Source: converse construction, Nevistic and Primbs, 1996.
    """

    def __init__(
        self,
        config: AffineConfig = QUARTIC_VALUE,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        def value(x: Tensor) -> Tensor:
            a, b = (x**2).unbind(-1)
            return a + 0.5 * b + 0.25 * (a + b) ** 2

        def slope(x: Tensor) -> Tensor:
            x1, x2 = x.unbind(-1)
            square = x1**2 + x2**2
            return torch.stack([x1 * (2.0 + square), x2 * (1.0 + square)], dim=-1)

        features = Monomials((2, 0), (1, 1), (0, 2), (4, 0), (3, 1), (2, 2), (1, 3), (0, 4))
        basis = Basis(features, (1.0, 0.0, 0.5, 0.25, 0.0, 0.5, 0.0, 0.25), (1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0))
        problem = converse(value, SECOND, ONE, TURN, HALF_QUARTER, value_gradient=slope, state_dim=2, basis=basis)
        super().__init__(problem, config, name="rlcore/QuarticValue-v0", dtype=dtype, device=device)


class HyperbolicValue(ControlAffine):
    """A system with an input gain that grows, and an optimal value that no polynomial equals.

    ## Dynamics
    dx = (f + g u) dt with g = (0, 1 + x1^2)' and f = (J - S + g g' / 4) grad V*, J = [0, 1; -1, 0], S = diag(1/2, 1/4)

    ## Observation and action
    | num  | observation | low  | high | unit |     | num | action | low | high | unit |
    |------|-------------|------|------|------|-----|-----|--------|-----|------|------|
    | 0..1 | x           | -inf | inf  | none |     | 0   | u      | -4  | 4    | none |

    The action bounds are declared, not enforced.

    ## Reward
    -(grad V*' S grad V* + u^2) per second.

    ## Start and end
    x_0 uniform in [-1, 1]^2. Truncated after 10 s; terminates with -V* at |x| = 2.5.

    ## Closed form
    V* = cosh(x1) - 1 + x2^2 (1 + x1^2) / 2, u* = -x2 (1 + x1^2)^2 / 2.

    Source: converse construction, Nevistic and Primbs, 1996.
    """

    def __init__(
        self,
        config: AffineConfig = HYPERBOLIC_VALUE,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        def value(x: Tensor) -> Tensor:  # cosh(x) - 1 = 2 sinh(x / 2)^2 loses nothing near 0
            x1, x2 = x.unbind(-1)
            return 2.0 * torch.sinh(0.5 * x1) ** 2 + 0.5 * x2**2 * (1.0 + x1**2)

        def slope(x: Tensor) -> Tensor:
            x1, x2 = x.unbind(-1)
            return torch.stack([torch.sinh(x1) + x1 * x2**2, x2 * (1.0 + x1**2)], dim=-1)

        def gain(x: Tensor) -> Tensor:
            x1 = x[..., 0]
            return torch.stack([torch.zeros_like(x1), 1.0 + x1**2], dim=-1).unsqueeze(-1)

        problem = converse(value, gain, ONE, TURN, HALF_QUARTER, value_gradient=slope, state_dim=2)
        super().__init__(problem, config, name="rlcore/HyperbolicValue-v0", dtype=dtype, device=device)


class TwoInputs(ControlAffine):
    """Three states with two inputs of different price, one of whose gains depends on the state.

    ## Dynamics
    dx = (f + g u) dt with g = [0, 0; 1, 0; 0, 1 + x1^2 / 2] and f = (J - S + g R^-1 g' / 4) grad V*,
    J = [0, 1, 0; -1, 0, 2; 0, -2, 0], S = diag(1, 1/2, 1/4), R = diag(1, 2)

    ## Observation and action
    | num  | observation | low  | high | unit |     | num  | action | low | high | unit |
    |------|-------------|------|------|------|-----|------|--------|-----|------|------|
    | 0..2 | x           | -inf | inf  | none |     | 0..1 | u      | -4  | 4    | none |

    The action bounds are declared, not enforced.

    ## Reward
    -(grad V*' S grad V* + u1^2 + 2 u2^2) per second.

    ## Start and end
    x_0 uniform in [-1, 1]^3. Truncated after 10 s; terminates with -V* at |x| = 4.

    ## Closed form
    V* = |x|^2 + x1 x2 / 2 + x3^4 / 4, u* = -R^-1 g' grad V* / 2, in the basis of the monomials of degree 2 and x3^4.

    Source: converse construction, Nevistic and Primbs, 1996.
    """

    def __init__(
        self,
        config: AffineConfig = TWO_INPUTS,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        def value(x: Tensor) -> Tensor:
            return (x**2).sum(-1) + 0.5 * x[..., 0] * x[..., 1] + 0.25 * x[..., 2] ** 4

        def slope(x: Tensor) -> Tensor:
            x1, x2, x3 = x.unbind(-1)
            return torch.stack([2.0 * x1 + 0.5 * x2, 2.0 * x2 + 0.5 * x1, 2.0 * x3 + x3**3], dim=-1)

        def gain(x: Tensor) -> Tensor:
            zero = torch.zeros_like(x[..., 0])
            one, last = torch.ones_like(zero), 1.0 + 0.5 * x[..., 0] ** 2
            return torch.stack([torch.stack([zero, one, zero], -1), torch.stack([zero, zero, last], -1)], -1)

        features = Monomials((2, 0, 0), (1, 1, 0), (1, 0, 1), (0, 2, 0), (0, 1, 1), (0, 0, 2), (0, 0, 4))
        basis = Basis(features, (1.0, 0.5, 0.0, 1.0, 0.0, 1.0, 0.25), (1.0, 0.5, 0.0, 1.0, 0.0, 1.0, 0.0))
        skew = ((0.0, 1.0, 0.0), (-1.0, 0.0, 2.0), (0.0, -2.0, 0.0))
        damping = ((1.0, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 0.25))
        weight = ((1.0, 0.0), (0.0, 2.0))
        problem = converse(value, gain, weight, skew, damping, value_gradient=slope, state_dim=3, basis=basis)
        super().__init__(problem, config, name="rlcore/TwoInputs-v0", dtype=dtype, device=device)


class SaturatedInput(ControlAffine):
    """A system whose input saturates at 1/2, with a cost that makes the optimum a hyperbolic tangent.

    ## Dynamics
    dx = (f + (0, u)') dt with D = 2 x2, f = (J - S) grad V* + (0, ln cosh(D) / (2 D))', J = [0, 1; -1, 0],
    S = diag(1/2, 1/4)

    ## Observation and action
    | num  | observation | low  | high | unit |     | num | action | low  | high | unit |
    |------|-------------|------|------|------|-----|-----|--------|------|------|------|
    | 0..1 | x           | -inf | inf  | none |     | 0   | u      | -0.5 | 0.5  | none |

    A larger action acts, and costs, as the largest.

    ## Reward
    -(grad V*' S grad V* + W(u)) per second, W(u) = int_0^u artanh(2 v) dv, which is u^2 for small u.

    ## Start and end
    x_0 uniform in [-2, 2]^2. Never terminates; truncated after 10 s.

    ## Closed form
    V* = x1^2 / 2 + x2^2, u* = -tanh(2 x2) / 2, in the basis x1^2, x1 x2, x2^2.

    Source: Abu-Khalaf and Lewis, Automatica 41, 2005, for the cost; converse construction, Nevistic and Primbs, 1996.
    """

    def __init__(
        self,
        config: AffineConfig = SATURATED_INPUT,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        def value(x: Tensor) -> Tensor:
            return 0.5 * x[..., 0] ** 2 + x[..., 1] ** 2

        def slope(x: Tensor) -> Tensor:
            return torch.stack([x[..., 0], 2.0 * x[..., 1]], dim=-1)

        basis = Basis(quadratic(2), (0.5, 0.0, 1.0), (0.2, 0.1, 0.3))
        problem = converse(
            value, SECOND, ONE, TURN, HALF_QUARTER, value_gradient=slope, state_dim=2, saturation=0.5, basis=basis
        )
        super().__init__(problem, config, name="rlcore/SaturatedInput-v0", dtype=dtype, device=device)
