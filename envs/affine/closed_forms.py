"""Nonlinear control-affine problems whose optimal value is known in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlcore.envs.affine.control_affine import AffineConfig, ControlAffine
from rlcore.envs.affine.problem import AffineProblem, Basis, Matrix
from rlcore.functional.bases import Features, quadratic

SINE_SYSTEM = AffineConfig(dt=0.05, substeps=10, horizon=10.0, action_bound=3.0, start=2.0)
COSINE_INPUT = AffineConfig(dt=0.02, substeps=12, horizon=10.0, action_bound=8.0, start=2.0, escape=10.0)
ARCTAN_SPRING = AffineConfig(dt=0.02, substeps=10, horizon=40.0, action_bound=8.0, start=1.0, escape=10.0)
CUBIC_DECAY = AffineConfig(dt=0.05, substeps=8, horizon=5.0, action_bound=2.0, start=1.0)
CUBIC_GROWTH = AffineConfig(dt=0.05, substeps=16, horizon=5.0, action_bound=4.0, start=1.0, escape=2.0)

ONE = ((1.0,),)
QUADRATIC = quadratic(2)


def column(*entries: Tensor) -> Tensor:
    """g of one input from its entries [B]: [B, n, 1]."""
    return torch.stack(entries, dim=-1).unsqueeze(-1)


class SineSystem(ControlAffine):
    """A stable system whose input works through sin(x1), so not at all on the line x1 = 0.

    ## Dynamics
    dx1 = (-x1 + x2) dt
    dx2 = (-(x1 + x2) / 2 + x2 sin(x1)^2 / 2 + sin(x1) u) dt

    ## Observation and action
    | num  | observation | low  | high | unit |     | num | action | low | high | unit |
    |------|-------------|------|------|------|-----|-----|--------|-----|------|------|
    | 0..1 | x           | -inf | inf  | none |     | 0   | u      | -3  | 3    | none |

    The action bounds are declared, not enforced.

    ## Reward
    -(|x|^2 + u^2) per second.

    ## Start and end
    x_0 uniform in [-2, 2]^2. Never terminates; truncated after 10 s.

    ## Closed form
    V* = x1^2 / 2 + x2^2, u* = -x2 sin(x1), in the basis x1^2, x1 x2, x2^2.

    Source: Cao and Pan, ICLR 2024, second experiment; Vrabie and Lewis, Neural Networks 22, 2009.
    """

    def __init__(
        self,
        config: AffineConfig = SINE_SYSTEM,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        def f(x: Tensor) -> Tensor:
            x1, x2 = x.unbind(-1)
            return torch.stack([x2 - x1, -0.5 * (x1 + x2) + 0.5 * x2 * torch.sin(x1) ** 2], dim=-1)

        def g(x: Tensor) -> Tensor:
            x1 = x[..., 0]
            return column(torch.zeros_like(x1), torch.sin(x1))

        basis = Basis(QUADRATIC, (0.5, 0.0, 1.0), (-1.0, 3.0, 1.5))
        problem = AffineProblem(2, 1, f, g, square, ONE, half_and_whole, basis=basis)
        super().__init__(problem, config, name="rlcore/SineSystem-v0", dtype=dtype, device=device)


class CosineInput(ControlAffine):
    """A system that is unstable in x2 without control; its input gain cos(2 x1) + 2 never vanishes.

    ## Dynamics
    dx1 = (-x1 + x2) dt
    dx2 = (-x1 / 2 - x2 (1 - c^2) / 2 + c u) dt,   c = cos(2 x1) + 2

    ## Observation and action
    | num  | observation | low  | high | unit |     | num | action | low | high | unit |
    |------|-------------|------|------|------|-----|-----|--------|-----|------|------|
    | 0..1 | x           | -inf | inf  | none |     | 0   | u      | -8  | 8    | none |

    The action bounds are declared, not enforced.

    ## Reward
    -(|x|^2 + u^2) per second.

    ## Start and end
    x_0 uniform in [-2, 2]^2. Truncated after 10 s; terminates with -V* at |x| = 10.

    ## Closed form
    V* = x1^2 / 2 + x2^2, u* = -(cos(2 x1) + 2) x2, in the basis x1^2, x1 x2, x2^2.

    Source: Vamvoudakis and Lewis, Automatica 46, 2010.
    """

    def __init__(
        self,
        config: AffineConfig = COSINE_INPUT,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        def f(x: Tensor) -> Tensor:
            x1, x2 = x.unbind(-1)
            return torch.stack([x2 - x1, -0.5 * x1 - 0.5 * x2 * (1.0 - (torch.cos(2.0 * x1) + 2.0) ** 2)], dim=-1)

        def g(x: Tensor) -> Tensor:
            x1 = x[..., 0]
            return column(torch.zeros_like(x1), torch.cos(2.0 * x1) + 2.0)

        basis = Basis(QUADRATIC, (0.5, 0.0, 1.0), (1.0, 1.0, 1.0))
        problem = AffineProblem(2, 1, f, g, square, ONE, half_and_whole, basis=basis)
        super().__init__(problem, config, name="rlcore/CosineInput-v0", dtype=dtype, device=device)


class ArctanSpring(ControlAffine):
    """An oscillator with a spring that is stiff on one side and soft on the other, and negative damping.

    ## Dynamics
    dx1 = x2 dt
    dx2 = (-x1 s - 5 x1^2 / (2 (1 + 25 x1^2)) + 4 x2 + 3 u) dt,   s = pi / 2 + arctan(5 x1)

    ## Observation and action
    | num  | observation | low  | high | unit |     | num | action | low | high | unit |
    |------|-------------|------|------|------|-----|-----|--------|-----|------|------|
    | 0..1 | x           | -inf | inf  | none |     | 0   | u      | -8  | 8    | none |

    The action bounds are declared, not enforced.

    ## Reward
    -(x2^2 + u^2) per second; the position costs nothing.

    ## Start and end
    x_0 uniform in [-1, 1]^2. Truncated after 40 s, because the soft side is slow; terminates with -V* at |x| = 10.

    ## Closed form
    V* = x1^2 s + x2^2, u* = -3 x2, in the basis x1^2 s, x1 x2, x2^2.

    Source: Primbs, Nevistic and Doyle, Asian Journal of Control 1, 1999.
    """

    def __init__(
        self,
        config: AffineConfig = ARCTAN_SPRING,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        def spring(x1: Tensor) -> Tensor:
            return 0.5 * math.pi + torch.atan(5.0 * x1)

        def f(x: Tensor) -> Tensor:
            x1, x2 = x.unbind(-1)
            force = -x1 * spring(x1) - 2.5 * x1**2 / (1.0 + 25.0 * x1**2)
            return torch.stack([x2, force + 4.0 * x2], dim=-1)

        def features(x: Tensor) -> Tensor:
            x1, x2 = x.unbind(-1)
            return torch.stack([x1**2 * spring(x1), x1 * x2, x2**2], dim=-1)

        problem = AffineProblem(
            2,
            1,
            f,
            Matrix(((0.0,), (3.0,))),
            lambda x: x[..., 1] ** 2,
            ONE,
            lambda x: x[..., 0] ** 2 * spring(x[..., 0]) + x[..., 1] ** 2,
            basis=Basis(Features(features), (1.0, 0.0, 1.0), (1.0, 0.0, 1.5)),
        )
        super().__init__(problem, config, name="rlcore/ArctanSpring-v0", dtype=dtype, device=device)


class CubicDecay(ControlAffine):
    """A scalar system that decays by itself, with an optimal value that no polynomial equals.

    ## Dynamics
    dx = (-x^3 + u) dt

    ## Observation and action
    | num | observation | low  | high | unit |     | num | action | low | high | unit |
    |-----|-------------|------|------|------|-----|-----|--------|-----|------|------|
    | 0   | x           | -inf | inf  | none |     | 0   | u      | -2  | 2    | none |

    The action bounds are declared, not enforced.

    ## Reward
    -(x^2 + u^2) per second.

    ## Start and end
    x_0 uniform in [-1, 1]. Never terminates; truncated after 5 s.

    ## Closed form
    V* = (x^2 sqrt(1 + x^4) + asinh(x^2) - x^4) / 2, u* = x^3 - x sqrt(1 + x^4). V*(1) = 0.647793574696.

    Source: the scalar HJB equation, a quadratic in V'.
    """

    def __init__(
        self,
        config: AffineConfig = CUBIC_DECAY,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__(cubic(-1.0), config, name="rlcore/CubicDecay-v0", dtype=dtype, device=device)


class CubicGrowth(ControlAffine):
    """A scalar system that reaches infinity in finite time without control.

    ## Dynamics
    dx = (x^3 + u) dt

    ## Observation and action
    | num | observation | low  | high | unit |     | num | action | low | high | unit |
    |-----|-------------|------|------|------|-----|-----|--------|-----|------|------|
    | 0   | x           | -inf | inf  | none |     | 0   | u      | -4  | 4    | none |

    The action bounds are declared, not enforced.

    ## Reward
    -(x^2 + u^2) per second.

    ## Start and end
    x_0 uniform in [-1, 1]. Truncated after 5 s; terminates with -V* at |x| = 2.

    ## Closed form
    V* = (x^2 sqrt(1 + x^4) + asinh(x^2) + x^4) / 2, u* = -x^3 - x sqrt(1 + x^4).

    Source: the scalar HJB equation, a quadratic in V'.
    """

    def __init__(
        self,
        config: AffineConfig = CUBIC_GROWTH,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__(cubic(1.0), config, name="rlcore/CubicGrowth-v0", dtype=dtype, device=device)


def square(x: Tensor) -> Tensor:
    """|x|^2."""
    return (x**2).sum(-1)


def half_and_whole(x: Tensor) -> Tensor:
    """x1^2 / 2 + x2^2."""
    return 0.5 * x[..., 0] ** 2 + x[..., 1] ** 2


def cubic(sign: float) -> AffineProblem:
    """dx = (sign x^3 + u) dt with cost rate x^2 + u^2."""

    def value(x: Tensor) -> Tensor:
        y = x[..., 0] ** 2
        return 0.5 * (y * torch.sqrt(1.0 + y**2) + torch.asinh(y) + sign * y**2)

    return AffineProblem(1, 1, lambda x: sign * x**3, Matrix(ONE), square, ONE, value)
