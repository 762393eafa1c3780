"""Settings of Nash learning with language policies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from rlcore.agents.nash.language.estimators import Credit
from rlcore.checks import check_integer, check_not_negative, check_positive
from rlcore.errors import ConfigError, unknown_name
from rlcore.functional.divergence import ALL

Method = Literal["nash_mp", "nash_md", "self_play"]
Loss = Literal["regression", "gradient", "ipo", "dpo", "chi_po"]
PROXIMAL = ("regression", "gradient", "ipo")


@dataclass(frozen=True)
class NashLanguageConfig:
    """The game, who plays against whom, the loss, and the optimiser."""

    beta: float = 0.1
    """Strength of the pull to the reference, in units of the preference."""
    method: Method = "nash_mp"
    """The opponent: a frozen half step (nash_mp), a mixture with the reference (nash_md), the policy (self_play)."""
    loss: Loss = "regression"
    """Of candidates judged against an opponent (regression, gradient), or of the pair of both (ipo, dpo, chi_po)."""
    weight: float = 0.5
    """lambda of nash_mp, strength of the pull to the anchor, in units of the preference."""
    half_steps: int = 20
    """Updates of the half step of nash_mp; the smaller beta, the more exact it has to be."""
    full_steps: int = 20
    """Updates of the full step of nash_mp."""
    mixture: float = 0.125
    """Share of the reference in the opponent of nash_md, token by token; its limit is biased by it."""
    credit: Credit = "to_go"
    """Which log-ratios a token answers for in the gradient; token is biased, and there to be compared with."""
    divergence: str = "reverse KL"
    """f of f-DPO, by its name in `rlcore.functional.divergence.ALL`."""
    largest: float = 5.0
    """R of chi-PO, the largest reward, in units of beta."""
    candidates: int = 2
    """Texts of the policy for each prompt; regression takes 2, gradient 2 or more, pairs 1."""
    reset_reference_every: int = 0
    """Updates after which the reference becomes the policy, as in MPO and COMAL; 0 never."""
    learning_rate: float = 1e-3
    """AdamW's step size, after the warm-up."""
    warmup_steps: int = 0
    """Updates over which the step size rises."""
    decay_steps: float = math.inf
    """Updates after which the step size is half of what it was: rate / (1 + k / decay_steps)."""
    weight_decay: float = 0.0
    """AdamW's decay, per unit of the step size."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    temperature: float = 1.0
    """Of the policy, the reference and all opponents: texts are drawn and scored at the same one."""
    max_new_tokens: int = 64
    """Longest completion, in tokens."""
    rows_at_once: int = 0
    """Prompts whose gradients are computed at a time, to bound the memory; 0 takes all. The result is the same."""
    bf16: bool = False
    """Run the models in bfloat16 where that is safe; log-probabilities are summed in float32."""
    gradient_checkpointing: bool = False
    """Compute the activations of a Hugging Face model twice to save memory; generation keeps its caches."""

    @property
    def total(self) -> float:
        """beta + lambda, lambda = 0 but for nash_mp."""
        return self.beta + (self.weight if self.method == "nash_mp" else 0.0)

    @property
    def paired(self) -> bool:
        """Whether the loss is one of the pair (candidate, opponent)."""
        return self.loss in ("ipo", "dpo", "chi_po")


def check_language(config: NashLanguageConfig) -> None:
    """Raise unless the settings make sense together."""
    for name in ("beta", "weight", "largest", "learning_rate", "max_grad_norm", "temperature"):
        check_positive(name, getattr(config, name))
    check_not_negative("weight_decay", config.weight_decay)
    if not config.decay_steps > 0.0:
        raise ConfigError(f"decay_steps must be positive, got {config.decay_steps}; inf keeps the step size")
    for name in ("half_steps", "full_steps", "candidates", "max_new_tokens"):
        check_integer(name, getattr(config, name))
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} must be at least 1, got {getattr(config, name)}")
    check_integer("rows_at_once, warmup_steps, reset_reference_every", config.rows_at_once, config.warmup_steps,
                  config.reset_reference_every)  # fmt: skip
    if min(config.rows_at_once, config.warmup_steps, config.reset_reference_every) < 0:
        raise ConfigError("rows_at_once, warmup_steps and reset_reference_every must not be negative")
    for name, kind in (("method", Method), ("loss", Loss), ("credit", Credit)):
        if getattr(config, name) not in get_args(kind):
            raise ConfigError(f"{name} must be one of {', '.join(get_args(kind))}, got {getattr(config, name)!r}")
    if config.divergence not in ALL:
        raise unknown_name("divergence", config.divergence, ALL)
    if not 0.0 <= config.mixture <= 1.0:
        raise ConfigError(f"mixture must lie in [0, 1], got {config.mixture}")
    if config.method == "nash_mp" and config.loss not in PROXIMAL:
        raise ConfigError(f"nash_mp needs a loss whose minimum is its step, {', '.join(PROXIMAL)}, got {config.loss!r}")
    wanted = {"regression": config.candidates == 2, "gradient": config.candidates >= 2}
    if not wanted.get(config.loss, config.candidates == 1):
        number = {"regression": "2", "gradient": "2 or more"}.get(config.loss, "1")
        raise ConfigError(f"loss {config.loss!r} needs {number} candidates per prompt, got {config.candidates}")
