"""Actor-critic on whole paths of a finite horizon: one update per batch of episodes.

    delta_k = J(X_{k+1}) - J(X_k) + r_k + (gamma p_k - beta J(X_k)) dt
    theta += alpha_theta l(j) sum_k xi_k delta_k,   xi = dJ/dtheta
    phi   += alpha_phi l(j) sum_k exp(-beta t_k) [(dlog pi_k/dphi + zeta_k) delta_k + gamma dp_k/dphi dt]

Sums over time are averaged over the paths of a batch; l(j) = j^-decay, j the number of the update. A weight eta(X) > 0
may multiply every term: then it is the first-order condition that is solved, which holds for all eta. With `natural` a
step is multiplied by the inverse of the mean of sum_k g_k g_k' dt, where g is dJ/dtheta or dlog pi/dphi. For the policy
that is Fisher's information, in whose metric the score's variance, which grows like 1 / var(a), cancels. It needs the
gradient of every row, so it serves forms with few parameters; networks take plain gradients.
Source: Jia and Zhou, JMLR 23 (2022) 275, Algorithm 1. The natural steps are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rlcore.checks import check_not_negative, check_positive
from rlcore.data import Trajectory
from rlcore.errors import ConfigError, NumericsError
from rlcore.functional.increments import Left, check_times
from rlcore.functional.test_functions import Trace
from rlcore.training.agent import Agent, Metrics

RIDGE = 1e-9  # share of the mean diagonal that keeps a metric invertible where a direction has no data


Weight = Callable[[Tensor], Tensor]  # [..., d] -> [...]


class Density(Protocol):
    """A stochastic policy with a density: a module, such as `WealthPolicy`, whose parameters are learned."""

    noise_dim: int

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor: ...  # [B, d], [B, noise_dim] -> [B, m]

    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor: ...  # [..., d], [..., m] -> [...]

    def entropy(self, obs: Tensor) -> Tensor: ...  # [..., d] -> [...]

    def parameters(self) -> Iterator[nn.Parameter]: ...


@dataclass(frozen=True)
class EpisodicConfig:
    """Settings of `EpisodicActorCritic` and `EpisodicQLearning`."""

    discount_rate: float = 0.0
    """beta [1/s]."""
    temperature: float = 0.1
    """gamma, weight of the entropy [reward per second]."""
    value_rate: float = 0.1
    """alpha of the value, per update."""
    policy_rate: float = 0.1
    """alpha of the policy, or of q, per update."""
    decay: float = 0.51
    """Exponent of l(j) = j^-decay; 0 keeps the rates."""
    natural: bool = False
    """Whether steps are taken in the metric of the test functions."""
    gradient_clip: float = math.inf
    """Largest Euclidean norm of a step, before it is multiplied by its rate."""

    def __post_init__(self) -> None:
        check_positive("temperature", self.temperature)
        for name in ("discount_rate", "value_rate", "policy_rate", "decay"):
            check_not_negative(name, getattr(self, name))
        if not self.gradient_clip > 0:
            raise ConfigError(f"gradient_clip must be positive, got {self.gradient_clip}; inf does not clip")


DEFAULT = EpisodicConfig()


class EpisodicActorCritic(Agent[Trajectory]):
    """On-policy actor-critic for a finite horizon: a batch holds whole paths of the policy of the moment.

    Raises `NumericsError` when it diverges.
    """

    updates: Tensor  # [] updates made

    def __init__(
        self,
        value: nn.Module,  # J: [..., d] -> [...], of observations that hold the remaining time
        policy: Density,
        config: EpisodicConfig = DEFAULT,
        optimizer: Callable[..., Optimizer] = torch.optim.SGD,
        *,
        entropy: Literal["analytic", "sampled"] = "analytic",  # p: the entropy of pi, or -log pi at the action taken
        weight: Weight | None = None,  # eta(x) > 0, which multiplies every test function; 1 unless given
        score_memory: float = 0.0,  # lambda of zeta_k = lambda^dt (zeta_{k-1} + dlog pi_{k-1}/dphi dt); 0: no zeta
    ) -> None:
        super().__init__()
        if entropy not in ("analytic", "sampled"):
            raise ConfigError(f"entropy must be 'analytic' or 'sampled', got {entropy!r}")
        if not 0.0 <= score_memory <= 1.0:
            raise ConfigError(f"score_memory must lie in [0, 1], got {score_memory}")
        self.value, self.config, self.entropy = value, config, entropy
        self.policy: Any = policy
        self.noise_dim = policy.noise_dim
        self.zeta = Trace(score_memory) if score_memory else None
        self.weight = weight
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.optimizers["critic"] = optimizer(value.parameters(), lr=config.value_rate)
        self.optimizers["actor"] = optimizer(self.policy.parameters(), lr=config.policy_rate)

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        action: Tensor = self.policy.act(obs, noise)
        return action

    @torch.no_grad()
    def residual(self, batch: Trajectory) -> Tensor:  # -> [K, B]
        """delta, the regulariser included."""
        obs, rule = batch.obs[:-1], Left(self.config.discount_rate)
        analytic = self.entropy == "analytic"
        regulariser = self.policy.entropy(obs) if analytic else -self.policy.log_prob(obs, batch.action)
        paid = self.config.temperature * regulariser * batch.dt.unsqueeze(1)
        delta: Tensor = (rule.change(self.value, batch) + batch.reward + paid) * batch.alive
        return delta

    def objectives(self, batch: Trajectory, delta: Tensor) -> tuple[Tensor, Tensor]:  # -> [], []
        """What critic and actor climb: the gradients are the sums over time of the source."""
        obs, eta = batch.obs[:-1], weights(self.weight, batch)
        discount = eta * discounts(batch, self.config.discount_rate)
        follows = discount * delta
        if self.zeta is not None:  # the memory of a score multiplies what follows it
            follows = follows + self.zeta.adjoint(follows, batch) - running_time(batch) * follows
        actor = self.policy.log_prob(obs, batch.action) * follows
        if self.entropy == "analytic":  # -log pi has a slope of mean zero, which is left out
            actor = actor + self.config.temperature * self.policy.entropy(obs) * discount * running_time(batch)
        return (self.value(obs) * eta * delta).sum(0).mean(), actor.sum(0).mean()

    def metrics_of_tests(self, batch: Trajectory) -> tuple[Tensor, Tensor]:  # -> [p, p], [p', p']
        """The metrics in which natural steps of critic and actor are taken."""
        seconds = weights(self.weight, batch) * running_time(batch)
        discount = discounts(batch, self.config.discount_rate)
        tests = row_gradients(self.value, batch.obs[:-1])
        return gram(tests, seconds), gram(scores(self.policy, batch), discount * seconds)

    def update(self, batch: Trajectory) -> Metrics:
        check_times(batch)
        config, delta = self.config, self.residual(batch)
        critic, actor = self.objectives(batch, delta)
        shapes = self.metrics_of_tests(batch) if config.natural else (None, None)
        decay = next_decay("the actor-critic", self.updates, config.decay, delta)
        climb(
            [
                Ascent(self.optimizers["critic"], critic, config.value_rate * decay, shapes[0]),
                Ascent(self.optimizers["actor"], actor, config.policy_rate * decay, shapes[1]),
            ],
            config.gradient_clip,
        )
        return {"train/residual_mean": delta.sum(0).mean(), "train/learning_rate": config.policy_rate * decay}


class Ascent(NamedTuple):
    """One set of parameters and what it climbs."""

    optimizer: Optimizer
    objective: Tensor  # []
    rate: float
    metric: Tensor | None  # [p, p]; None takes the plain gradient


def climb(ascents: Sequence[Ascent], clip: float) -> None:
    """One step of each up its objective; all gradients are taken before anything moves."""
    for optimizer, objective, _, metric in ascents:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradient = torch.autograd.grad(objective, parameters, retain_graph=True)
        flat = torch.cat([slope.flatten() for slope in gradient])
        if metric is not None:
            flat = torch.linalg.solve(metric, flat)
        pieces = torch.split(flat, [p.numel() for p in parameters])
        for p, piece in zip(parameters, pieces, strict=True):
            p.grad = -piece.view_as(p)
        nn.utils.clip_grad_norm_(parameters, clip)
    for optimizer, _, rate, _ in ascents:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()


def next_decay(name: str, updates: Tensor, exponent: float, residual: Tensor) -> float:
    """Count an update and return its l(j); raise when the residuals are no longer numbers."""
    updates += 1
    if not bool(torch.isfinite(residual).all()):
        raise NumericsError(f"{name} diverged in update {int(updates)}; lower the rates or clip the gradient")
    return math.pow(float(updates), -exponent)


def discounts(batch: Trajectory, discount_rate: float) -> Tensor:  # -> [K, 1]
    """exp(-beta t), from the start of the batch."""
    return torch.exp(-discount_rate * (batch.t[:-1] - batch.t[0])).unsqueeze(1).to(batch.reward.dtype)


def running_time(batch: Trajectory) -> Tensor:  # -> [K, B]
    """dt of the steps that started alive, 0 of the others."""
    return batch.dt.unsqueeze(1).to(batch.reward.dtype) * batch.alive


def row_gradients(function: nn.Module, *inputs: Tensor) -> Tensor:  # [..., d], ... -> [..., p]
    """df/dtheta of every row, by one forward derivative per parameter: all rows at once, few parameters."""
    parameters = {name: p.detach() for name, p in function.named_parameters()}

    def values(theta: dict[str, Tensor]) -> Tensor:
        found: Tensor = torch.func.functional_call(function, theta, inputs)
        return found

    found = torch.func.jacfwd(values)(parameters)
    rows = inputs[0].dim() - 1
    return torch.cat([found[name].flatten(rows) for name in parameters], dim=-1)


def weights(weight: Weight | None, batch: Trajectory) -> Tensor:  # -> [K, B]
    """eta at the start of every step."""
    if weight is None:
        return torch.ones_like(batch.reward)
    with torch.no_grad():
        return weight(batch.obs[:-1]).to(batch.reward.dtype)


class LogDensity(nn.Module):
    """log pi as a module, so that it can be differentiated by rows."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:  # [..., d], [..., m] -> [...]
        found: Tensor = self.policy.log_prob(obs, action)
        return found


def scores(policy: Any, batch: Trajectory) -> Tensor:  # -> [K, B, p]
    """dlog pi/dphi of every row."""
    return row_gradients(LogDensity(policy), batch.obs[:-1], batch.action)


def gram(gradient: Tensor, weight: Tensor) -> Tensor:  # [K, B, p], [K, B] -> [p, p]
    """sum_k weight g g', averaged over paths."""
    rows = gradient.flatten(0, 1)
    found = rows.T @ (rows * weight.to(rows.dtype).reshape(-1, 1)) / gradient.shape[1]
    return found + RIDGE * found.diagonal().mean() * torch.eye(len(found), dtype=found.dtype, device=found.device)
