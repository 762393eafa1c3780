"""Off-policy integral RL: policy iteration on windows that any input made, drift and input gain unknown.

The equations are in `data_integrals`; where no stabilising policy is known, `value_iteration` finds one from the same
integrals.
Source: Jiang and Jiang, Automatica 48, 2012; Bian and Jiang, Automatica 71, 2016, for the start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from rlcore.agents.integral_rl.data_integrals import (
    NodeValues,
    OffPolicyStep,
    check_excited,
    check_windows,
    iterate,
    sample_nodes,
    value_change,
)
from rlcore.agents.integral_rl.value_iteration import ValueIterationConfig, stabilising_gain
from rlcore.checks import check_finite, check_integer, check_map, check_not_negative, check_shape, check_tensors
from rlcore.data import Windows
from rlcore.errors import ConfigError, NumericsError, ShapeError
from rlcore.functional.bases import StateMap
from rlcore.functional.quadrature import Rule
from rlcore.training.agent import Agent, Metrics


@dataclass(frozen=True)
class OffPolicyConfig:
    """Settings of `OffPolicyIntegralRl`."""

    discount_rate: float = 0.0
    """beta [1/s]."""
    iterations: int = 20
    """Largest number of policy iterations in an update."""
    tolerance: float = 1e-12
    """An update ends when no weight of the policy changes by more than this share of the largest."""
    start: ValueIterationConfig = field(default_factory=ValueIterationConfig)
    """How a first policy is found when none is given."""


@final
class OffPolicyIntegralRl(Agent[Windows]):
    """u = F psi(x) and V = phi'w, learned together from windows under any exciting input; float64.

    `first` is an admissible F [m, r]. None finds one in the first update; that is for linear systems with quadratic
    cost, basis `bases.quadratic(n)` and actor features psi(x) = x. An update forms the data integrals of its windows
    once and iterates on them to the end; `weight_bound` and `policy_bound` then say how far w and F may be off.
    """

    control_weight: Tensor  # R [m, m]
    weights: Tensor  # w [p]
    policy: Tensor  # F [m, r]
    weight_bound: Tensor  # [p]; nan where the rule has no prior
    policy_bound: Tensor  # [m, r]
    ready: Tensor  # bool [], whether `policy` is admissible; before, it is 0

    def __init__(
        self,
        state_dim: int,
        basis: StateMap,
        actor: StateMap,
        state_cost: StateMap,
        control_weight: Tensor,
        rule: Rule,
        first: Tensor | None = None,
        config: OffPolicyConfig = OffPolicyConfig(),
    ) -> None:
        super().__init__()
        check_not_negative("discount_rate", config.discount_rate, "1/s")
        check_not_negative("tolerance", config.tolerance)
        check_integer("iterations", config.iterations)
        if config.iterations < 1:
            raise ConfigError(f"iterations must be at least 1, got {config.iterations}")
        check_tensors(control_weight=control_weight)
        R = control_weight.detach().double()
        if R.ndim != 2 or R.shape[0] != R.shape[1]:
            raise ShapeError(f"control_weight must be [m, m], got {list(R.shape)}; give a scalar as [[r]]")
        if not torch.equal(R, R.T) or not bool((torch.linalg.eigvalsh(R) > 0.0).all()):
            raise ConfigError(
                "control_weight must be symmetric and positive definite: every action must cost something"
            )
        probe = torch.zeros(1, state_dim, dtype=torch.float64, device=R.device)
        p, shape = basis(probe).shape[-1], (len(R), actor(probe).shape[-1])
        if first is not None:
            check_tensors(first=first)
            check_shape("first", first, shape)
            check_finite("first", first)
        self.state_dim = state_dim
        self.basis, self.actor, self.state_cost, self.rule, self.config = basis, actor, state_cost, rule, config
        self.register_buffer("control_weight", R.clone())
        self.register_buffer("weights", R.new_zeros(p))
        self.register_buffer("policy", R.new_zeros(shape) if first is None else first.detach().to(R).clone())
        self.register_buffer("weight_bound", R.new_full((p,), torch.nan))
        self.register_buffer("policy_bound", R.new_full(shape, torch.nan))
        self.register_buffer("ready", torch.tensor(first is not None, device=R.device))

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # [..., n] -> [..., m]
        self.check_states(obs)
        return (self.actor(obs.double()) @ self.policy.T).to(obs.dtype)

    def value(self, obs: Tensor) -> Tensor:  # [..., n] -> [...]
        """V(x), a cost."""
        self.check_states(obs)
        return self.basis(obs.double()) @ self.weights

    def check_states(self, obs: Tensor) -> None:
        """Raise `ShapeError` unless these are states of the system that the agent was made for."""
        check_tensors(states=obs)
        if obs.ndim < 1 or obs.shape[-1] != self.state_dim:
            raise ShapeError(f"states must be [..., {self.state_dim}], got {list(obs.shape)}; give the whole state")

    @torch.no_grad()
    def update(self, batch: Windows) -> Metrics:
        """Policy iteration on these windows, to the end; raises `NumericsError` and keeps the policy where it fails."""
        beta = self.config.discount_rate
        windows = batch.to(dtype=torch.float64)
        self.check(windows)
        nodes = sample_nodes(windows, self.state_cost, self.actor, self.rule, beta)
        data = nodes.integrals(value_change(self.basis, windows, beta))
        check_windows(data)
        tried = 0
        policy = self.policy
        if not bool(self.ready):
            found = stabilising_gain(
                undiscounted(nodes).integrals(value_change(self.basis, windows)),
                quadratic_form(self.state_cost, windows.states.shape[-1], policy),
                self.control_weight,
                self.config.start,
            )
            policy, tried = -found.gain, found.steps
        phi = self.basis(windows.states)
        for k in range(1, self.config.iterations + 1):
            step = iterate(data, policy, self.control_weight)
            check_excited(step.fit)
            check_value(phi @ step.weights, k)
            judged, policy = policy, step.policy
            change = float((policy - judged).abs().max() / policy.abs().max().clamp(min=1e-300))
            if change <= self.config.tolerance:
                break
        self.weights.copy_(step.weights)
        self.policy.copy_(policy)
        self.ready.fill_(True)
        return self.keep_bounds(nodes, judged, step) | {
            "train/iterations": float(k),
            "train/change": change,
            "train/value_iterations": float(tried),
            "train/rank": step.fit.rank.double(),
            "train/condition": step.fit.condition,
            "train/residual": step.fit.residual.square().mean().sqrt(),
        }

    def check(self, windows: Windows) -> None:
        """Raise `ShapeError` unless windows and functions fit each other and the unknowns."""
        x, (m, r) = windows.states[..., :1, :1, :], self.policy.shape
        if windows.states.ndim != 3 or windows.actions.shape[-1] != m:
            raise ShapeError(
                f"need windows of one problem, states [W, N, n] and actions [W, N, {m}], got "
                f"{list(windows.states.shape)} and {list(windows.actions.shape)}; gather all windows in W"
            )
        check_map("the basis", self.basis, x, (1, 1, len(self.weights)))
        check_map("the actor", self.actor, x, (1, 1, r))
        check_map("state_cost", self.state_cost, x, (1, 1))

    def keep_bounds(self, nodes: NodeValues, judged: Tensor, step: OffPolicyStep) -> dict[str, Tensor]:
        """The error bound of what was learned, into its buffers; nan for a rule without a prior."""
        deviation = nodes.deviation(judged, step.policy, self.control_weight)
        if deviation is None:
            self.weight_bound.fill_(torch.nan)
            self.policy_bound.fill_(torch.nan)
            return {}
        for kept, bound in zip((self.weight_bound, self.policy_bound), step.bound(deviation), strict=True):
            kept.copy_(bound)
        return {
            "train/window_deviation": deviation.max(),
            "train/weight_bound": torch.linalg.vector_norm(self.weight_bound),
            "train/policy_bound": torch.linalg.matrix_norm(self.policy_bound),
        }


def undiscounted(nodes: NodeValues) -> NodeValues:
    """The same samples, without the discount."""
    return NodeValues(nodes.quadrature, torch.ones_like(nodes.decay), nodes.cost, nodes.features, nodes.actions)


def quadratic_form(state_cost: StateMap, n: int, like: Tensor) -> Tensor:  # -> [n, n]
    """Q of a state cost x'Q x, by its values at e_i and e_i + e_j."""
    unit = torch.eye(n, dtype=torch.float64, device=like.device)
    single = state_cost(unit)
    pairs = state_cost((unit.unsqueeze(0) + unit.unsqueeze(1)).reshape(n * n, n)).reshape(n, n)
    Q: Tensor = 0.5 * (pairs - single.unsqueeze(0) - single.unsqueeze(1))
    probe = torch.linspace(-1.0, 2.0, n, dtype=torch.float64, device=like.device)
    if not torch.allclose(state_cost(probe.unsqueeze(0)), probe @ Q @ probe, rtol=1e-9, atol=1e-12):
        raise ConfigError("a first policy is found for quadratic costs x'Q x only; give an admissible `first`")
    return Q


def check_value(values: Tensor, iteration: int) -> None:
    """Raise where the value of a policy is negative at a sampled state: the policy is not admissible."""
    lowest = float(values.min() / values.abs().max())
    if not lowest >= -1e-6:
        raise NumericsError(
            f"iteration {iteration}: the policy must have a finite and positive V, but that evaluated falls to "
            f"{lowest:.3g} of its largest at the sampled states; start from an admissible policy, or take more nodes"
        )
