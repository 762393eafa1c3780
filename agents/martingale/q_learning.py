"""q-learning in continuous time, with the normalisation constraint kept by construction.

    delta_k = J(X') - J(X) + r dt - (q(X, a) + beta J(X)) dt        (ergodic: the average reward V in place of beta J)
    theta += alpha w dJ/dtheta delta,   psi += alpha w dq/dpsi delta,   V += alpha w delta

The increments have mean zero under any behaviour policy of full support when (J, q) is the optimal pair, so the same
update serves on-policy rollouts and rows from a replay buffer, without importance weights. q = gamma log pi, so q is
the policy. The weight w(X, a), 1 unless given, multiplies every test function; the test functions must be
square-integrable under the data.
Source: Jia and Zhou, "q-Learning in continuous time", JMLR 24 (2023) 161, sections 4 and 6.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rlcore.agents.martingale.ascent import Ascent, Steps, update_of
from rlcore.agents.martingale.online import (
    check_alive,
    check_clip,
    is_alive,
    named,
    rated_optimizer,
    seconds_of,
    unbounded,
)
from rlcore.agents.martingale.tails import TestFunctionShare
from rlcore.checks import check_integer, check_not_negative, check_positive
from rlcore.data import Transitions
from rlcore.errors import ConfigError
from rlcore.functional.martingale import increment, log_decay
from rlcore.nn.gradients import per_sample_gradient
from rlcore.nn.graphs import Compiled
from rlcore.nn.quadratic_q import BoxQuadraticQ, QuadraticQ, check_normalised, normalised_by_construction
from rlcore.nn.steps import Following, Named
from rlcore.parallel import world
from rlcore.training.agent import Agent, Metrics

Weight = Callable[[Tensor, Tensor], Tensor]  # [*, d], [*, m] -> [*]
WEIGHT = "give a weight: bounded_weight(0.1)"


def bounded_weight(strength: float) -> Weight:
    """w(x, a) = (1 + c (|x|^2 + |a|^2))^-2, under which test functions quadratic in (x, a) have all moments."""
    check_positive("strength", strength)

    def weight(obs: Tensor, action: Tensor) -> Tensor:
        return (1.0 + strength * ((obs**2).sum(-1) + (action**2).sum(-1))) ** -2

    return weight


@dataclass(frozen=True)
class QLearningConfig:
    """Settings of `QLearning`. Rates are per second of physical time, so they stay when dt changes."""

    discount_rate: float = 0.0
    """beta [1/s]; 0 is the ergodic problem, in which the average reward is learned too."""
    value_rate: float = 0.001
    """alpha of J and of the average reward [1/s]."""
    q_rate: float = 0.001
    """alpha of the mean of q [1/s]."""
    scale_rate: float = 0.01
    """alpha of the log-curvature of q [1/s]; larger, because its gradient is of the order of the temperature."""
    update_interval: float = 0.01
    """Physical time between two updates, per path [s]."""
    decay: bool = True
    """Divide the rates by max(1, log t), t the physical time per path seen so far [s]."""
    target_time: float = 0.0
    """Time constant [s] with which a copy of J follows it, from which J(X') is taken; 0 takes J itself."""
    gradient_clip: float = math.inf
    """Largest Euclidean norm of the gradient of an update, over all parameters."""
    watch: int = 0
    """Every so many updates, count the squares of dJ/dtheta into `train/test_function_share`; 0 never. If it
    does not fall like 1 / n, the test functions are not square-integrable under the data."""
    compiled: Compiled = False
    """Whether an update is one graph of `torch.compile`: up to a minute once, then faster; equal to rounding only.
    'graph' records it on a GPU."""


class QLearning(Agent[Transitions]):
    """Ergodic or discounted q-learning with a q-function that is quadratic in the action.

    A q of your own needs `temperature`, `noise_dim`, `act` and `int exp(q / gamma) da = 1`, which is checked on the
    first batch. `weight`, such as `bounded_weight(0.1)`, is for behaviour under which the state has heavy tails.
    Raises `NumericsError` when it diverges.
    """

    average_reward: Tensor  # [] per second, entropy included
    elapsed: Tensor  # [] s

    def __init__(
        self,
        value: nn.Module,  # J: [*, d] -> [*]
        q: QuadraticQ | BoxQuadraticQ,
        config: QLearningConfig = QLearningConfig(),
        optimizer: Callable[[Any], Optimizer] = torch.optim.SGD,
        weight: Weight | None = None,
    ) -> None:
        super().__init__()
        check_not_negative("discount_rate", config.discount_rate, "1/s")
        check_not_negative("target_time", config.target_time, "s")
        check_clip(config.gradient_clip)
        check_integer("watch", config.watch)
        if config.watch < 0:
            raise ConfigError(f"watch must not be negative, got {config.watch} updates; 0 never counts")
        for name in ("value_rate", "q_rate", "scale_rate", "update_interval"):
            check_positive(name, getattr(config, name))
        self.value, self.q, self.config, self.weight = value, q, config, weight
        self.noise_dim = q.noise_dim
        self.normalised = normalised_by_construction(q)  # another form is looked at with the first batch
        self.target = copy.deepcopy(value).requires_grad_(False) if config.target_time else None
        size = sum(parameter.numel() for parameter in value.parameters())
        self.tests = TestFunctionShare(size) if config.watch else None
        self.register_buffer("average_reward", torch.zeros(()))
        self.register_buffer("elapsed", torch.zeros((), dtype=torch.float64))
        scale, others = named(q, "log_scale")
        rates = ((list(value.parameters()), config.value_rate), (others, config.q_rate), (scale, config.scale_rate))
        self.optimizers["martingale"] = made = rated_optimizer(optimizer, rates)
        follow = 1.0 - math.exp(-config.update_interval / config.target_time) if config.target_time else 0.0
        following = None if self.target is None else Following(self.target, value, follow)
        ascents = {"martingale": Ascent("objective", made, config.gradient_clip, following)}
        self.learning = update_of(self, self.advance, ascents, compiled=config.compiled)

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.q.act(obs, noise)

    def residual(self, batch: Transitions, average_reward: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """J + q [*], whose gradient is the test function, and delta [*], which is not differentiated."""
        average = self.average_reward if average_reward is None else average_reward
        value, q = self.value(batch.obs), self.q(batch.obs, batch.action)
        with torch.no_grad():
            after = (self.value if self.target is None else self.target)(batch.next_obs) * (batch.discount > 0)
            beta = self.config.discount_rate
            running = q + (beta * value if beta else average)
            delta = increment(value, after, batch.reward, batch.dt, running=running)
        return value + q, delta

    def objective(
        self, columns: Mapping[str, Any], average_reward: Tensor, seconds: Tensor
    ) -> tuple[Tensor, ...]:  # -> [], bool [], [*], []
        """What is climbed, whether it may be, delta, and the weighted residual per second."""
        batch = Transitions(**columns)
        tests, delta = self.residual(batch, average_reward)
        weighted = delta if self.weight is None else self.weight(batch.obs, batch.action) * delta
        alive = is_alive(delta, batch.dt, seconds)
        return (tests * weighted).sum() / seconds, alive, delta, world().mean(weighted.sum()) / seconds

    def advance(
        self, step: Steps, columns: Mapping[str, Any], seconds: Tensor, average_reward: Tensor, elapsed: Tensor
    ) -> Named:
        """The steps of an update; the average reward and the elapsed time after it."""
        config = self.config
        decay = log_decay(elapsed) if config.decay else torch.ones_like(elapsed)
        pace = config.update_interval * decay  # s
        alive, delta, drift = step["martingale"](pace, columns, average_reward, seconds)
        learned = 0.0 if config.discount_rate else torch.where(alive, config.value_rate * pace * drift, 0.0)
        return {
            "alive": alive,
            "elapsed": torch.where(alive, elapsed + config.update_interval, elapsed),
            "average_reward": average_reward + learned,
            "train/residual_mean": delta.mean(),
            "train/residual_sd": delta.std(correction=0),
            "train/learning_rate": config.q_rate * decay,
        }

    def update(self, batch: Transitions) -> Metrics:
        if not self.normalised:
            check_normalised(self.q, batch.obs)
            self.normalised = True
        tests, interval = self.tests, self.config.update_interval
        if tests is not None and round(float(self.elapsed) / interval) % self.config.watch == 0:
            scale = 1.0 if self.weight is None else self.weight(batch.obs, batch.action).unsqueeze(-1)
            tests.see(scale * per_sample_gradient(self.value, batch.obs))
            tests.warn("q-learning", WEIGHT)
        columns = {name: x for name, x in vars(batch).items() if name != "extras"}
        seconds = world().mean(batch.dt.sum())
        metrics = self.learning(columns, seconds, self.average_reward, self.elapsed)
        if not bool(metrics.pop("alive")):
            delta = self.residual(batch)[1]
            check_alive("q-learning", delta, seconds_of(batch.dt), self.elapsed, lambda: self._remedy(batch.obs))
        for name in ("elapsed", "average_reward"):
            getattr(self, name).copy_(metrics.pop(name))
        metrics["train/average_reward"] = self.average_reward
        return metrics if tests is None else {**metrics, "train/test_function_share": tests.share}

    def _remedy(self, obs: Tensor) -> str:
        """What to change, from what is known about the test functions and the states."""
        if self.tests is not None and self.tests.heavy:
            return f"{self.tests.describe()}, so they are not square-integrable under this behaviour; {WEIGHT}"
        runaway = unbounded(obs, self.config.discount_rate)
        if runaway is not None:
            return runaway
        if self.tests is None:
            return "lower the rates, or set watch to see whether the test functions are square-integrable"
        return f"{self.tests.describe()}, which is as it should be; lower the rates or clip the gradient"
