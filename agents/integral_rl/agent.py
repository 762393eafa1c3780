"""Integral reinforcement learning: policy iteration from sampled paths, the drift unknown, the input gain known.

    PEV    Theta w_i = Xi on windows of u_i            PIM    u_{i+1} = -1/2 R^-1 g'grad phi'w_i

Source: Vrabie and Lewis, Neural Networks 22, 2009; Cao and Pan, ICLR 2024, for Bayesian quadrature in PEV.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from rlcore.agents.integral_rl.error_budget import ErrorBudget, error_budget
from rlcore.agents.integral_rl.guard import Reason, RefusalError, Verdict, judge
from rlcore.agents.integral_rl.improvement import KnownParts
from rlcore.agents.integral_rl.policy_evaluation import Evaluation, evaluate_policy
from rlcore.checks import check_map, check_not_negative, check_numbers, check_positive, check_shape, check_tensors
from rlcore.data import Windows
from rlcore.errors import ShapeError
from rlcore.functional.bases import Basis, StateMap, beside, curvature
from rlcore.functional.quadrature import Quadrature, Rule
from rlcore.training.agent import Agent, Metrics


@dataclass(frozen=True)
class IntegralRlConfig:
    """Settings of `IntegralRl`."""

    discount_rate: float = 0.0
    """beta [1/s]."""
    least_decrease: float = 0.5
    """Under a new policy the former V must fall over every window by this share of its cost; exact: at least 1."""
    largest_spread: float = 0.5
    """Largest standard deviation of a window's integral beside the integral."""


@final
class IntegralRl(Agent[Windows]):
    """On-policy integral RL with a value linear in features, any quadrature rule, an error bar and a guard.

    `weights` [L..., p] are those of a value whose best action is the first policy, or `law` is that policy. L counts
    problems that learn side by side. Every update evaluates the policy in force and improves it, or refuses: a policy
    that fails is taken back, and its problem learns no more until windows with other nodes come. Where no problem of
    the batch is left that learns, `RefusalError` says why.
    """

    weights: Tensor  # [L..., p] of the V whose best action is the policy in force
    trusted: Tensor  # [L..., p] of the policy before it
    improvements: Tensor  # int64 [L...] accepted so far; 0 where the first policy is in force
    held: Tensor  # int64 [L...] the `Reason` why a problem learns no more; 0 where it does

    def __init__(
        self,
        basis: Basis,
        known: KnownParts,
        rule: Rule,
        weights: Tensor,
        config: IntegralRlConfig = IntegralRlConfig(),
        *,
        law: StateMap | None = None,
    ) -> None:
        super().__init__()
        check_not_negative("discount_rate", config.discount_rate, "1/s")
        check_numbers("least_decrease", config.least_decrease)
        check_positive("largest_spread", config.largest_spread)
        check_tensors(weights=weights)
        if weights.ndim < 1 or not weights.is_floating_point() or not bool(torch.isfinite(weights).all()):
            raise ShapeError(f"weights must be finite numbers [..., p], got {list(weights.shape)}")
        self.basis, self.known, self.rule, self.config, self.law = basis, known, rule, config, law
        self.register_buffer("weights", weights.detach().clone())
        self.register_buffer("trusted", weights.detach().clone())
        for name in ("improvements", "held"):
            self.register_buffer(name, torch.zeros(weights.shape[:-1], dtype=torch.int64, device=weights.device))
        self.held_on: Tensor | None = None
        self.refused: RefusalError | None = None
        self.nodes: tuple[Tensor, Quadrature] | None = None
        self.second: Tensor | None = None
        self.evaluation: Evaluation | None = None
        self.verdict: Verdict | None = None

    def value(self, x: Tensor) -> Tensor:  # [L..., *, n] -> [L..., *]
        """V(x), a cost; its best action is the policy in force."""
        phi = self.basis(x)
        return (phi * beside(self.weights, phi)).sum(-1)

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # [L..., *, n] -> [L..., *, m]
        lead = self.weights.shape[:-1]
        check_tensors(states=obs)
        if obs.shape[: len(lead)] != lead or obs.ndim <= len(lead):
            raise ShapeError(f"states must lead with the batch of problems, {list(lead)}, got {list(obs.shape)}")
        x = obs.to(self.weights.dtype)
        action = self.known.improved_action(x, self.basis.gradient(x, self.weights)).to(obs.dtype)
        if self.law is None:
            return action
        return torch.where(beside(self.improvements.unsqueeze(-1), obs) > 0, action, self.law(obs))

    def evaluate(self, windows: Windows) -> Evaluation:
        """PEV: the value of the policy that made the windows."""
        if self.nodes is None or self.nodes[0] is not windows.times:  # weights serve as long as the nodes are the same
            self.nodes = (windows.times, self.rule.at(windows.elapsed))
        utility = self.known.utility(windows.states, windows.actions)
        return evaluate_policy(self.basis, windows, utility, self.nodes[1], self.config.discount_rate)

    def error_budget(self, windows: Windows, deviations: float = 1.0) -> ErrorBudget:
        """How far weights, actions and cost may be from the optimum, once updates change little."""
        return error_budget(self.basis, self.known, windows, self.evaluate(windows), deviations)

    def check(self, windows: Windows) -> None:
        """Raise `ShapeError` unless windows, basis and known parts fit each other and the weights."""
        x, lead, p = windows.states[..., :1, :1, :], self.weights.shape[:-1], self.weights.shape[-1]
        n, m = windows.states.shape[-1], windows.actions.shape[-1]
        if windows.states.shape[:-3] != lead:
            raise ShapeError(
                f"windows must have the leading dimensions of the weights, {list(lead)}, got states "
                f"{list(windows.states.shape)}; a single problem has states [W, N, n]"
            )
        for name, part in (("states", windows.states), ("actions", windows.actions), ("times", windows.times)):
            if (part.dtype, part.device) != (self.weights.dtype, self.weights.device):
                raise ShapeError(
                    f"{name} must be {self.weights.dtype} on {self.weights.device} like the weights, got {part.dtype} "
                    f"on {part.device}; convert one of them with .to(...)"
                )
        check_map(f"the basis at states {list(x.shape)}", self.basis, x, (*x.shape[:-1], p))
        check_map(f"state_cost at states {list(x.shape)}", self.known.state_cost, x, tuple(x.shape[:-1]))
        check_map(f"input_gain at states {list(x.shape)}", self.known.input_gain, x, (*x.shape[:-1], n, m))
        check_shape("control_weight", self.known.control_weight, (*self.known.control_weight.shape[:-2], m, m))

    @torch.no_grad()
    def update(self, batch: Windows) -> Metrics:
        self.check(batch)
        windows, finite = only_finite(batch, self.weights.ndim - 1)
        return self.improve(windows, self.evaluate(windows), finite)

    @torch.no_grad()
    def improve(self, windows: Windows, found: Evaluation, finite: Tensor) -> Metrics:
        """PIM: judge an evaluation of the policy in force, however its integrals were found, and take or refuse it."""
        self.release(windows.times)
        held, verdict = self.held != Reason.FINE, self.judge(windows, found, finite)
        verdict = replace(verdict, reason=torch.where(held, self.held, verdict.reason))
        self.evaluation, self.verdict = found, verdict
        fine, unsafe = verdict.fine, verdict.unsafe & ~held
        back = unsafe & (self.improvements > 0)
        iteration = self.improvements.flatten()[:1] + 1
        change = torch.linalg.vector_norm(found.weights - self.weights, dim=-1)
        kept = torch.where(back.unsqueeze(-1), self.trusted, self.weights)
        self.trusted.copy_(torch.where(fine.unsqueeze(-1), self.weights, self.trusted))
        self.weights.copy_(torch.where(fine.unsqueeze(-1), found.weights, kept))
        self.improvements += fine.long() - back.long()
        self.held.copy_(torch.where(unsafe, verdict.reason, self.held))
        if bool(unsafe.any()):
            self.held_on = windows.times
        if not bool(fine.any()):
            if self.refused is None or not bool(held.all()):
                self.refused = verdict.refusal(int(iteration), int(found.fit.rank.flatten()[0]), self.weights.shape[-1])
            raise self.refused
        return self.metrics(found, verdict, change)

    def release(self, times: Tensor | None = None) -> None:
        """Let problems that were refused learn again; with `times`, only if these are not the nodes they failed on."""
        same = times is self.held_on or (
            times is not None and self.held_on is not None and torch.equal(times, self.held_on)
        )
        if times is None or not same:
            self.held.zero_()
            self.held_on = self.refused = None

    def second_derivatives(self, states: Tensor) -> Tensor:  # -> [p, n, n]
        """Of the features at 0; all 0, so that they decide nothing, where they do not exist."""
        if self.second is None or self.second.device != states.device:
            found = curvature(self.basis, states.shape[-1])
            self.second = torch.where(torch.isfinite(found).all(), found, 0.0).to(states)
        return self.second

    def judge(self, windows: Windows, found: Evaluation, finite: Tensor) -> Verdict:
        """Hold the evaluation, and the policy in force, against what is true of exact ones."""
        phi = self.basis(windows.states)  # [..., W, N, p]
        values = (phi * beside(found.weights, phi)).sum(-1)
        keep = torch.exp(-self.config.discount_rate * windows.length)
        former = self.value(windows.states[..., [0, -1], :])
        drop = former[..., 0] - keep * former[..., 1]
        drop = torch.where((self.improvements > 0).unsqueeze(-1), drop, torch.nan)
        weights = torch.where(finite.unsqueeze(-1), found.weights, 1.0).nan_to_num()
        second = self.second_derivatives(windows.states)
        bend = torch.linalg.eigvalsh(torch.einsum("...p,pij->...ij", weights, second))[..., 0]
        bend = 0.5 * bend * windows.states.square().sum(-1).amax((-2, -1))
        limits = self.config.least_decrease, self.config.largest_spread
        return judge(found, values, bend, drop, finite, *limits)

    def metrics(self, found: Evaluation, verdict: Verdict, change: Tensor) -> dict[str, Tensor]:
        """The worst over the batch of what tells a good evaluation from a bad one."""
        shown = {
            "train/rank": found.fit.rank.amin().double(),
            "train/condition": found.fit.condition.amax(),
            "train/smallest_singular_value": found.fit.smallest_singular_value.amin(),
            "train/residual": found.residual.amax(),
            "train/change": change.amax(),
            "train/decrease": verdict.decrease.nan_to_num(1.0).amin(),  # nothing to compare with at first
            "train/refused": (~verdict.fine).double().mean(),
        }
        if found.deviation is not None and found.weight_bound is not None:
            shown |= {
                "train/window_deviation": found.deviation.nan_to_num().amax(),
                "train/spread": verdict.spread.nan_to_num().amax(),
                "train/weight_bound": torch.linalg.vector_norm(found.weight_bound.nan_to_num(), dim=-1).amax(),
            }
        return shown


def only_finite(windows: Windows, lead: int) -> tuple[Windows, Tensor]:
    """Windows with 1 in place of what is not finite, or has no cost that is; and whether each problem [L...] was."""
    largest = torch.finfo(windows.states.dtype).max ** 0.25
    fine = ((windows.states.abs() < largest).all(-1)) & ((windows.actions.abs() < largest).all(-1))
    whole = fine.flatten(lead).all(-1)
    states, actions = (
        torch.where(fine.unsqueeze(-1), part, torch.ones_like(part)) for part in (windows.states, windows.actions)
    )
    return Windows(windows.times, states, actions), whole
