"""Control-affine problems as environments: undiscounted regulation of a deterministic system with a known optimum."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.checks import check_positive, check_real
from rlcore.envs.affine.problem import AffineProblem, Basis
from rlcore.errors import ConfigError
from rlcore.simulation.environment import ControlledDiffusion, ControlSpec, EnvState
from rlcore.simulation.integrators import Rk4
from rlcore.simulation.policy import Feedback


@dataclass(frozen=True)
class AffineConfig:
    """Times, bounds and start; x and u have no unit."""

    dt: float = 0.05
    """Control interval [s]: an action is held for this long."""
    substeps: int = 8
    """Runge-Kutta steps per control interval."""
    horizon: float = 10.0
    """Length of an episode [s]; it truncates."""
    action_bound: float = 3.0
    """Actions in [-bound, bound] are declared to Gymnasium; only an input that saturates is clipped."""
    start: float = 1.0
    """Each component of the initial state is uniform in [-start, start]."""
    escape: float = math.inf
    """The episode terminates where |x| reaches this, paid with -V*, so that the optimum stays what it is."""


class ControlAffine(ControlledDiffusion):
    """A deterministic control-affine problem with a known optimum, undiscounted.

    ## Dynamics
    dx = (f(x) + g(x) u) dt, by Runge-Kutta steps of order 4 with the action held over `dt`

    ## Observation and action
    | num      | observation | low  | high | unit |     | num      | action | low    | high  | unit |
    |----------|-------------|------|------|------|-----|----------|--------|--------|-------|------|
    | 0..n - 1 | x           | -inf | inf  | none |     | 0..m - 1 | u      | -bound | bound | none |

    ## Reward
    -(q(x) + W(u)) per second, where W(u) = u'R u, or the cost of an input that saturates at lambda.

    ## Start and end
    x_0 uniform in a box. `horizon` truncates. Where |x| reaches `escape` the episode terminates with -V*(x), what the
    best control would still have cost, so V* and u* are those of the problem without that end.

    ## Closed form
    `optimal_value` is V*, a cost: the value of the rewards is -V*. `optimal_action`, `optimal_policy`, `hjb_residual`,
    and `optimal_weights` where V* lies in a finite `basis`. Holding the action over `dt` makes the cost a little
    larger; `closed_loop` gives the dynamics under a feedback that acts continuously.

    Source: Cao and Pan, "Impact of computation in integral reinforcement learning for continuous-time control", ICLR
    2024, for the setting.
    """

    def __init__(
        self,
        problem: AffineProblem,
        config: AffineConfig = AffineConfig(),
        *,
        name: str = "rlcore/ControlAffine-v0",
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        check_positive("action_bound", config.action_bound)
        check_positive("start", config.start)
        check_real("escape", config.escape)
        if not config.escape > config.start * math.sqrt(problem.state_dim):
            raise ConfigError(
                f"escape must lie outside of the box of initial states, beyond start sqrt(n) = "
                f"{config.start * math.sqrt(problem.state_dim):.4g}, got {config.escape}"
            )
        bound = min(config.action_bound, problem.saturation)
        spec = ControlSpec(
            name,
            state_dim=problem.state_dim,
            action_dim=problem.action_dim,
            noise_dim=0,
            dt=config.dt,
            horizon=config.horizon,
            action_low=-bound,
            action_high=bound,
        )
        super().__init__(spec, Rk4(config.substeps), dtype=dtype, device=device)
        self.problem, self.config = problem, config

    @property
    def terminates(self) -> bool:
        return math.isfinite(self.config.escape)

    def initial_state(self, noise: Tensor) -> EnvState:  # [B, n]
        t = torch.zeros(noise.shape[0], dtype=torch.float64, device=noise.device)
        return EnvState(t, self.config.start * torch.erf(noise * math.sqrt(0.5)))

    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # [B], [B, n], [B, m] -> [B, n]
        return self.problem.velocity(x, u)

    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # -> [B]
        return -self.cost_rate(x, u)

    def terminated(self, state: EnvState) -> Tensor:  # -> bool [B]
        return ~((state.x**2).sum(-1) < self.config.escape**2)  # also where x is no number

    def terminal_reward(self, state: EnvState) -> Tensor:  # -> [B]
        return -self.optimal_value(state.x)

    def f(self, x: Tensor) -> Tensor:  # [B, n] -> [B, n]
        """The dynamics without control, per second."""
        return self.problem.f(x)

    def input_gain(self, x: Tensor) -> Tensor:  # [B, n] -> [B, n, m]
        """g, how the action acts."""
        return self.problem.g(x)

    def state_cost(self, x: Tensor) -> Tensor:  # [B, n] -> [B]
        """q, the cost rate of the state."""
        return self.problem.q(x)

    def action_cost(self, u: Tensor) -> Tensor:  # [B, m] -> [B]
        """W, the cost rate of the action."""
        return self.problem.action_cost(u)

    def cost_rate(self, x: Tensor, u: Tensor) -> Tensor:  # [B, n], [B, m] -> [B]
        """q(x) + W(u)."""
        return self.problem.q(x) + self.problem.action_cost(u)

    @property
    def control_weight(self) -> Tensor:  # [m, m]
        """R."""
        return self.problem.weight.rows.to(self.device, self.dtype)

    @property
    def saturation(self) -> float:
        """lambda, the bound of the input; inf where there is none."""
        return self.problem.saturation

    def optimal_value(self, x: Tensor) -> Tensor:  # [B, n] -> [B]
        """V*(x): the least cost from x, positive."""
        return self.problem.value(x)

    def optimal_gradient(self, x: Tensor) -> Tensor:  # [B, n] -> [B, n]
        """grad V*."""
        return self.problem.slope(x)

    def optimal_action(self, x: Tensor) -> Tensor:  # [B, n] -> [B, m]
        """u*(x)."""
        return self.problem.best_action(x, self.problem.slope(x))

    def optimal_policy(self) -> Feedback:
        """u* as a policy."""
        return Feedback(self.optimal_action)

    def hjb_residual(self, x: Tensor) -> Tensor:  # [B, n] -> [B]
        """What is left of the HJB equation at V*, per second."""
        return self.problem.residual(x)

    @property
    def basis(self) -> Basis:
        """Features in which V* is linear."""
        if self.problem.basis is None:
            raise ConfigError(f"V* of {self.spec.name} must lie in a finite basis, none is known; choose features")
        return self.problem.basis

    def features(self, x: Tensor) -> Tensor:  # [B, n] -> [B, p]
        """phi, the natural basis: V* = phi'w*."""
        return self.basis.features(x)

    @property
    def optimal_weights(self) -> Tensor:  # [p]
        """w*, with V* = phi'w*."""
        return torch.tensor(self.basis.optimal, dtype=self.dtype, device=self.device)

    @property
    def admissible_weights(self) -> Tensor:  # [p]
        """Weights whose best policy stabilises: where policy iteration may start."""
        return torch.tensor(self.basis.admissible, dtype=self.dtype, device=self.device)

    def closed_loop(self, law: Callable[[Tensor], Tensor]) -> ClosedLoop:
        """The dynamics under u = law(x), acting at every instant."""
        return ClosedLoop(self, law)


@dataclass(frozen=True)
class ClosedLoop:
    """Dynamics for an `Integrator` where the feedback acts at every instant; the action that is passed is ignored."""

    env: ControlAffine
    law: Callable[[Tensor], Tensor]  # [B, n] -> [B, m]

    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return self.env.drift(t, x, self.law(x))

    def diffuse(self, t: Tensor, x: Tensor, u: Tensor, z: Tensor) -> Tensor:
        return self.env.diffuse(t, x, u, z)

    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return self.env.reward_rate(t, x, self.law(x))
