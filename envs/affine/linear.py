"""Linear regulators as control-affine problems, and three from the literature on integral reinforcement learning."""

from __future__ import annotations

import torch
from torch import Tensor

from rlcore.envs.affine.control_affine import AffineConfig, ControlAffine
from rlcore.envs.affine.problem import AffineProblem, Basis, Matrix, Rows
from rlcore.functional.bases import half_vector, quadratic
from rlcore.functional.riccati import care, check_sizes, feedback_gain, largest_real_part

THIRD_ORDER_LINEAR = AffineConfig(dt=0.05, substeps=10, horizon=10.0, action_bound=10.0, start=3.0)
F16_SHORT_PERIOD = AffineConfig(dt=0.05, substeps=8, horizon=20.0, action_bound=2.0, start=1.0)
LOAD_FREQUENCY = AffineConfig(dt=0.02, substeps=32, horizon=10.0, action_bound=3.0, start=0.5)


def linear(A: Rows, B: Rows, Q: Rows, R: Rows) -> AffineProblem:
    """dx = (A x + B u) dt with cost rate x'Q x + u'R u; V* = x'P x with P from the Riccati equation.

    The basis is x_1^2, x_1 x_2, ..., x_2^2, ... in the order of the upper triangle. Policy iteration may start at u = 0
    where A is stable, and otherwise at twice the optimal gain, which the infinite gain margin allows.
    """
    a, b, q, r = parts = tuple(torch.as_tensor(part, dtype=torch.float64) for part in (A, B, Q, R))
    check_sizes(*parts)
    n, m = b.shape
    p = care(*parts)
    optimal = half_vector(p)
    stable = bool(largest_real_part(a) < 0.0)
    admissible = torch.zeros_like(optimal) if stable else 2.0 * optimal
    basis = Basis(quadratic(n), tuple(optimal.tolist()), tuple(admissible.tolist()))
    flow, weight, best = Matrix(a.T.tolist()), Matrix(q.tolist()), Matrix(p.tolist())
    return AffineProblem(
        state_dim=n,
        action_dim=m,
        f=lambda x: x @ flow.like(x),
        g=Matrix(b.tolist()),
        q=lambda x: ((x @ weight.like(x)) * x).sum(-1),
        R=r.tolist(),
        value=lambda x: ((x @ best.like(x)) * x).sum(-1),
        basis=basis,
    )


class LinearRegulator(ControlAffine):
    """A linear system with quadratic cost, undiscounted; see `ControlAffine` for the rest of the page.

    ## Dynamics
    dx = (A x + B u) dt

    ## Reward
    -(x'Q x + u'R u) per second, without the factor 1/2.

    ## Closed form
    V* = x'P x and u* = -K x: `P`, `optimal_gain`. `A`, `B`, `Q`, `R` are there for the model-based iteration of
    `rlcore.functional.riccati`.
    """

    def __init__(
        self,
        A: Rows,
        B: Rows,
        Q: Rows,
        R: Rows,
        config: AffineConfig = AffineConfig(),  # noqa: B008, frozen
        *,
        name: str = "rlcore/LinearRegulator-v0",
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__(linear(A, B, Q, R), config, name=name, dtype=dtype, device=device)
        self.A, self.B, self.Q, self.R = (torch.tensor(part, dtype=dtype, device=self.device) for part in (A, B, Q, R))
        wide = [torch.as_tensor(part, dtype=torch.float64) for part in (A, B, Q, R)]
        best = care(*wide)
        self.P = best.to(self.device, dtype)
        self.optimal_gain = feedback_gain(wide[1], wide[3], best).to(self.device, dtype)  # [m, n]

    def optimal_action(self, x: Tensor) -> Tensor:
        return -x @ self.optimal_gain.T


class ThirdOrderLinear(LinearRegulator):
    """A stable system of third order with a slow, damped oscillation, controlled in its last state.

    ## Dynamics
    dx1 = x2 dt, dx2 = x3 dt, dx3 = (-0.1 x1 - 0.5 x2 - 0.7 x3 + u) dt

    ## Observation and action
    | num  | observation | low  | high | unit |     | num | action | low | high | unit |
    |------|-------------|------|------|------|-----|-----|--------|-----|------|------|
    | 0..2 | x           | -inf | inf  | none |     | 0   | u      | -10 | 10   | none |

    The action bounds are declared, not enforced.

    ## Reward
    -(|x|^2 + u^2) per second.

    ## Start and end
    x_0 uniform in [-3, 3]^3. Never terminates; truncated after 10 s.

    ## Closed form
    u* = -(0.904987562, 1.893095222, 1.596995961) x; closed-loop poles -0.8746 and -0.7112 +- 0.8020i per second.

    Source: Cao and Pan, ICLR 2024, first experiment.
    """

    def __init__(
        self,
        config: AffineConfig = THIRD_ORDER_LINEAR,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        A, B = ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (-0.1, -0.5, -0.7)), ((0.0,), (0.0,), (1.0,))
        super().__init__(
            A, B, identity(3), ((1.0,),), config, name="rlcore/ThirdOrderLinear-v0", dtype=dtype, device=device
        )


class F16ShortPeriod(LinearRegulator):
    """The short-period motion of an F-16 aircraft with its elevator actuator.

    ## Dynamics
    dx = (A x + B u) dt with x = (angle of attack, pitch rate, elevator deflection) and u the elevator command
    A = [-1.01887, 0.90506, -0.00215; 0.82225, -1.07741, -0.17555; 0, 0, -1], B = (0, 0, 1)'

    ## Observation and action
    | num | observation       | low  | high | unit  |     | num | action           | low | high | unit |
    |-----|-------------------|------|------|-------|-----|-----|------------------|-----|------|------|
    | 0   | angle of attack   | -inf | inf  | rad   |     | 0   | elevator command | -2  | 2    | rad  |
    | 1   | pitch rate        | -inf | inf  | rad/s |     |     |                  |     |      |      |
    | 2   | elevator          | -inf | inf  | rad   |     |     |                  |     |      |      |

    The action bounds are declared, not enforced.

    ## Reward
    -(|x|^2 + u^2) per second.

    ## Start and end
    x_0 uniform in [-1, 1]^3. Never terminates; truncated after 20 s, for the slow mode of -0.2 per second.

    ## Closed form
    u* = (0.135232, 0.150103, -0.432928) x.

    Source: Vamvoudakis and Lewis, Automatica 46, 2010; data of Stevens and Lewis.
    """

    def __init__(
        self,
        config: AffineConfig = F16_SHORT_PERIOD,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        A = ((-1.01887, 0.90506, -0.00215), (0.82225, -1.07741, -0.17555), (0.0, 0.0, -1.0))
        B = ((0.0,), (0.0,), (1.0,))
        super().__init__(
            A, B, identity(3), ((1.0,),), config, name="rlcore/F16ShortPeriod-v0", dtype=dtype, device=device
        )


class LoadFrequency(LinearRegulator):
    """Load-frequency control of a power plant around its operating point, with integral action of the governor.

    ## Dynamics
    dx = (A x + B u) dt with x = (frequency, generator output, governor valve, integral of the frequency)
    A = [-0.0665, 8, 0, 0; 0, -3.663, 3.663, 0; -6.86, 0, -13.736, -13.736; 0.6, 0, 0, 0], B = (0, 0, 13.736, 0)'

    ## Observation and action
    | num  | observation | low  | high | unit |     | num | action           | low | high | unit |
    |------|-------------|------|------|------|-----|-----|------------------|-----|------|------|
    | 0..3 | x           | -inf | inf  | none |     | 0   | governor command | -3  | 3    | none |

    The action bounds are declared, not enforced.

    ## Reward
    -(|x|^2 + u^2) per second.

    ## Start and end
    x_0 uniform in [-0.5, 0.5]^4. Never terminates; truncated after 10 s. Stiff: under u* the poles are -19.73, -3.31
    +- 3.24i and -0.81 per second.

    ## Closed form
    u* = -(0.826689, 1.700305, 0.704948, 0.414214) x.

    Source: Vrabie, Pastravanu, Abu-Khalaf and Lewis, Automatica 45, 2009.
    """

    def __init__(
        self,
        config: AffineConfig = LOAD_FREQUENCY,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        A = (
            (-0.0665, 8.0, 0.0, 0.0),
            (0.0, -3.663, 3.663, 0.0),
            (-6.86, 0.0, -13.736, -13.736),
            (0.6, 0.0, 0.0, 0.0),
        )
        B = ((0.0,), (0.0,), (13.736,), (0.0,))
        super().__init__(
            A, B, identity(4), ((1.0,),), config, name="rlcore/LoadFrequency-v0", dtype=dtype, device=device
        )


def identity(n: int) -> Rows:
    """The unit matrix as rows."""
    rows: list[list[float]] = torch.eye(n).tolist()
    return rows
