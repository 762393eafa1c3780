"""CPPO: proximal policy optimisation whose trust region is a mean of sqrt(KL) over states, and so survives dt -> 0.

    maximise  E[ rho(x, u) q^(x, u) ] + gamma E[H(pi(x))] - C E_x sqrt(KL(pi_old(x), pi(x))),   rho = pi / pi_old at u

The performance difference of two policies is (1 / beta) E[q - gamma log pi], and its local approximation errs by at
most a multiple of the state-averaged sqrt(KL). q^ is the increment of the value over a row divided by its length,
averaged with a trace that fades in seconds. C grows when the mean sqrt(KL) leaves its target and shrinks when it stays
below. A KL between laws of whole paths would grow like 1 / dt; one of the actions at a state does not.
Source: Zhao, Tang and Yao, "Policy optimization for continuous reinforcement learning", NeurIPS 2023.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rlcore.agents.martingale.online import check_alive, climb, rated_optimizer
from rlcore.checks import check_integer, check_not_negative, check_positive
from rlcore.data import Transitions
from rlcore.errors import ConfigError, ShapeError
from rlcore.functional.returns import traced_sum
from rlcore.nn.gaussian import Gaussian
from rlcore.nn.mlp import Mlp, Scalar
from rlcore.simulation.environment import ControlSpec
from rlcore.training.agent import Agent, Metrics


@dataclass(frozen=True)
class CppoConfig:
    """Settings of `Cppo`. One update takes a batch of fixed physical length, so that it does not change with dt."""

    temperature: float = 0.01
    """gamma, the weight of the entropy [reward per second]."""
    policy_trace: float = 0.6
    """Seconds over which increments are gathered into q^ [s]; 0 takes single steps."""
    value_trace: float = 1.0
    """Seconds over which increments are gathered into the target of the value [s]."""
    distance: float = 0.12
    """Target of the mean sqrt(KL) of an update."""
    decay_time: float = 0.0
    """Rates and distance are divided by 1 + (t / decay_time)^2, t the physical time per path so far [s]; 0 keeps."""
    epochs: int = 16
    """Passes over a batch."""
    minibatches: int = 4
    """Parts into which a pass splits the batch: every so manyth row."""
    value_rate: float = 3e-3
    """Learning rate of Adam for J, per gradient step; a J that lags behind the policy makes it overshoot."""
    policy_rate: float = 3e-3
    """Learning rate of Adam for the policy, per gradient step."""
    gradient_clip: float = 1.0
    """Largest Euclidean norm of a gradient."""


PENALTY_RANGE = (1e-4, 1e3)  # of C, where q^ has unit variance
PENALTY_FACTOR = 1.5  # by which C changes when the distance is off
SLACK = 0.1  # share by which the distance may miss its target
LIMIT = 1.5  # times the target: there the policy rests until the next batch, since C adapts only between batches
SMOOTH = 1e-4  # sqrt(KL + SMOOTH^2) - SMOOTH has a gradient at KL = 0


class Cppo(Agent[Transitions]):
    """On-policy updates from consecutive rows [K, B].

    Noise that is redrawn at every step explores nothing as dt -> 0: hold it for a physical time (`HeldSource`) and take
    a row per hold (`WindowSource` with a stride of its length). Single steps of a `RolloutSource` serve at a coarse dt.

    Raises `NumericsError` when it diverges.
    """

    penalty: Tensor  # [] C
    elapsed: Tensor  # [] s

    def __init__(
        self,
        value: nn.Module,  # J: [*, d] -> [*]
        policy: Gaussian,
        config: CppoConfig = CppoConfig(),
    ) -> None:
        super().__init__()
        for name in ("temperature", "policy_trace", "value_trace", "decay_time"):
            check_not_negative(name, getattr(config, name))
        for name in ("distance", "value_rate", "policy_rate", "gradient_clip"):
            check_positive(name, getattr(config, name))
        check_integer("epochs, minibatches", config.epochs, config.minibatches)
        if min(config.epochs, config.minibatches) < 1:
            raise ConfigError(f"need epochs and minibatches >= 1, got {config.epochs} and {config.minibatches}")
        self.value, self.policy, self.config = value, policy, config
        self.noise_dim = policy.noise_dim
        self.register_buffer("penalty", torch.ones(()))
        self.register_buffer("elapsed", torch.zeros((), dtype=torch.float64))
        for name, module, rate in (("value", value, config.value_rate), ("policy", policy, config.policy_rate)):
            self.optimizers[name] = rated_optimizer(torch.optim.Adam, [(list(module.parameters()), rate)])

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.policy.act(obs, noise)

    @torch.no_grad()
    def targets(self, batch: Transitions) -> tuple[Tensor, Tensor]:  # [K, B] -> [K, B], [K, B]
        """q^ per second and the target of J. The entropy is earned along the way, as a reward."""
        config = self.config
        value, after = self.value(batch.obs), self.value(batch.next_obs)
        entropy = config.temperature * self.policy.entropy() * batch.dt
        delta = batch.reward + entropy + batch.discount * after - value
        last = batch.extras["last"]
        advantage, gain = (
            traced_sum(delta, batch.discount, batch.dt, last, seconds)
            for seconds in (config.policy_trace, config.value_trace)
        )
        return advantage / batch.dt.clamp(min=max(config.policy_trace, 1e-12)), value + gain

    def update(self, batch: Transitions) -> Metrics:
        if batch.reward.dim() != 2 or "last" not in batch.extras:
            raise ShapeError(f"expected consecutive rows [K, B] with extras['last'], got {list(batch.reward.shape)}")
        config = self.config
        q, target = self.targets(batch)
        check_alive("CPPO", q * batch.dt, batch.dt.sum(), self.elapsed, lambda: "lower policy_rate or distance")
        spread = q.std() + 1e-8
        obs, action = batch.obs.flatten(0, 1), batch.action.flatten(0, 1)
        with torch.no_grad():
            old_mean, old_log = self.policy.mean(obs), self.policy.log_variance.clone()
            old_log_prob = self.policy.log_prob(obs, action)
        decay = 1.0 / (1.0 + (float(self.elapsed) / config.decay_time) ** 2) if config.decay_time else 1.0
        columns = (obs, action, ((q - q.mean()) / spread).flatten(), target.flatten(), old_log_prob, old_mean)
        weight = config.temperature / spread  # the entropy, in the units of the normalised q^
        for _ in range(config.epochs):
            for part in range(config.minibatches):
                self._step(tuple(column[part :: config.minibatches] for column in columns), old_log, weight, decay)
        with torch.no_grad():
            distance = self._distance(self.policy.mean(obs), old_mean, old_log).mean()
        if distance > (1.0 + SLACK) * decay * config.distance:
            self.penalty *= PENALTY_FACTOR
        elif distance < (1.0 - SLACK) * decay * config.distance:
            self.penalty /= PENALTY_FACTOR
        self.penalty.clamp_(*PENALTY_RANGE)
        self.elapsed += batch.dt.sum(0).mean()
        return {
            "train/distance": distance,
            "train/penalty": self.penalty,
            "train/q_sd": spread,
            "train/value": target.mean(),
            "train/entropy": self.policy.entropy().detach(),
        }

    def _step(self, columns: tuple[Tensor, ...], old_log: Tensor, weight: Tensor, decay: float) -> None:
        """One gradient step on a minibatch."""
        obs, action, q, target, old_log_prob, old_mean = columns
        ratio = torch.exp(self.policy.log_prob(obs, action) - old_log_prob)
        distance = self._distance(self.policy.mean(obs), old_mean, old_log).mean()
        improve = (ratio * q).mean() + weight * self.policy.entropy() - self.penalty * distance
        fit = -0.5 * (self.value(obs) - target).square().mean()
        climb(self.optimizers["value"], fit, decay, self.config.gradient_clip)
        if distance < LIMIT * decay * self.config.distance:
            climb(self.optimizers["policy"], improve, decay, self.config.gradient_clip)

    def _distance(self, mean: Tensor, old_mean: Tensor, old_log: Tensor) -> Tensor:  # [N, m] -> [N]
        """sqrt(KL(pi_old(x), pi(x))) of Gaussians at each state."""
        log = self.policy.log_variance
        kl = 0.5 * (torch.exp(old_log - log) + (mean - old_mean) ** 2 * torch.exp(-log) - 1.0 + log - old_log).sum(-1)
        return torch.sqrt(kl.clamp(min=0.0) + SMOOTH**2) - SMOOTH


def cppo(
    spec: ControlSpec,
    config: CppoConfig = CppoConfig(),
    *,
    generator: torch.Generator,
    hidden: Sequence[int] = (64, 64),
    input_scale: Sequence[float] | None = None,
) -> Cppo:
    """CPPO with networks for a problem; the first standard deviation is the box's half-width."""
    sizes = (spec.observation_dim, hidden)
    common: dict[str, Any] = {"generator": generator, "activation": nn.ReLU, "input_scale": input_scale}
    mean = Mlp(*sizes, spec.action_dim, output_gain=0.01, **common)
    value = Scalar(Mlp(*sizes, 1, **common))
    half = 0.5 * (spec.action_high - spec.action_low)
    first = 2.0 * math.log(half)
    return Cppo(value, Gaussian(mean, spec.action_dim, log_variance=first), config)
