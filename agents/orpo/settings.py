"""Settings of proximal policy optimisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rlcore.checks import check_integer, check_not_negative, check_numbers, check_positive
from rlcore.errors import ConfigError
from rlcore.nn.graphs import Compiled


@dataclass(frozen=True)
class PpoConfig:
    """Settings of `Ppo`."""

    trace_time: float = 20.0
    """Time over which increments are gathered into A [s]: the lambda of the field is exp(-dt / trace_time)."""
    clip: float = 0.2
    """c: how far the ratio of probabilities may go and still be rewarded."""
    epochs: int = 8
    """Passes over a batch."""
    minibatch: int = 256
    """Rows of a gradient step, per run; rows left over in one pass come in another."""
    rate: float = 3e-4
    """Adam's step size."""
    rate_final: float | None = None
    """The same from `anneal_steps` on, in between linearly; None keeps it."""
    entropy: float = 0.0
    """e, weight of the entropy, beside advantages of unit variance."""
    entropy_final: float | None = None
    """The same from `anneal_steps` on, in between linearly; None keeps it."""
    anneal_steps: int = 1_000_000
    """Environment steps per run over which rate and entropy reach their final values."""
    value_weight: float = 0.5
    """w."""
    value_clip: float = math.inf
    """How far V may move from what it was, in its own unit, before its loss stops asking for more."""
    target_kl: float = math.inf
    """A run rests until the next batch when KL(pi_old | pi) on a minibatch exceeds 1.5 times this [nats]."""
    gradient_clip: float = 0.5
    """Largest Euclidean norm of a run's gradient."""
    average_steps: int = 0
    """Environment steps per run over which `averaged()` takes the mean of the weights, older ones fading; 0 takes the
    last. It fluctuates less than the policy that learns, behind which it stays by as much."""
    sequence: int = 16
    """With a memory: steps along which gradients flow; it must divide the steps of a batch."""
    compiled: Compiled = False
    """Whether gradient steps are compiled graphs: up to a minute once, then much faster on small networks; 'graph'
    records them on a GPU."""


def check_config(config: PpoConfig) -> None:
    """Raise unless these settings can be used."""
    if not config.trace_time >= 0.0:
        raise ConfigError(f"trace_time must not be negative, got {config.trace_time} s; inf sums to the end")
    for name in ("rate", "clip"):
        check_positive(name, getattr(config, name))
    for name in ("entropy", "value_weight"):
        check_not_negative(name, getattr(config, name))
    for name in ("rate_final", "entropy_final"):
        if (value := getattr(config, name)) is not None:
            check_numbers(name, value)
            check_not_negative(name, value)
    for name in ("value_clip", "target_kl", "gradient_clip"):
        if not getattr(config, name) > 0.0:
            raise ConfigError(f"{name} must be positive, got {getattr(config, name)}; inf does without")
    check_integer("average_steps", config.average_steps)
    check_not_negative("average_steps", config.average_steps)
    for name in ("epochs", "minibatch", "anneal_steps", "sequence"):
        check_integer(name, getattr(config, name))
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} must be at least 1, got {getattr(config, name)}")
