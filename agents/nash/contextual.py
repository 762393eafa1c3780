"""Nash Mirror Prox with a network for the policy: duels instead of tables, frozen copies instead of closed forms.

anchor a = theta_k;  opponent theta_k       -> some steps -> theta_{k+1/2}
same anchor;         opponent theta_{k+1/2} -> some steps -> theta_{k+1},   on from the weights of the half step
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rlcore.agents.nash.estimators import exact_loss, policy_gradient_loss, regression_loss
from rlcore.checks import check_integer, check_positive
from rlcore.data import Comparisons
from rlcore.errors import ConfigError
from rlcore.training.agent import Agent, Metrics

Estimator = Literal["gradient", "regression", "exact"]
LOSSES = {"gradient": policy_gradient_loss, "regression": regression_loss}


@dataclass(frozen=True)
class NashContextualConfig:
    """Settings of `NashContextual`."""

    beta: float = 0.1
    """Strength of the pull to the reference, in units of the preference."""
    weight: float = 0.5
    """lambda, strength of the pull to the anchor, in units of the preference."""
    estimator: Estimator = "regression"
    """How a proximal step is estimated; exact needs batches with the win probabilities of all actions."""
    lr: float = 0.02
    """Adam's step size at the beginning."""
    half_steps: int = 40
    """Updates of the half step; the smaller beta, the more exact it has to be."""
    full_steps: int = 40
    """Updates of the full step."""
    decay: float = 500.0
    """Updates after which the step size is half of what it was: lr / (1 + k / decay). It decides the noise floor."""


class NashContextual(Agent[Comparisons]):
    """A policy pi(y | x) proportional to mu(y | x) exp(network(x)) that learns from duels against its frozen self.

    Weights and Adam's moments go on from one proximal step to the next, and so does a run that stopped between two.

    Batches are `Comparisons` with context [N, d], candidates first [N, K], the opponent's action second [N], and
    preferred [N, K] in [0, 1]. `reference` gives log mu, [N, d] -> [N, A]. A network whose output begins at zero begins
    at mu.
    """

    step: Tensor  # updates so far
    outer: Tensor  # proximal steps done

    def __init__(
        self,
        network: nn.Module,
        reference: Callable[[Tensor], Tensor],
        config: NashContextualConfig = NashContextualConfig(),
    ) -> None:
        super().__init__()
        check_positive("beta", config.beta)
        check_positive("weight", config.weight)
        check_positive("lr", config.lr)
        check_positive("decay", config.decay, "updates")
        check_integer("half_steps, full_steps", config.half_steps, config.full_steps)
        if min(config.half_steps, config.full_steps) < 1:
            raise ConfigError(f"need half_steps, full_steps >= 1, got {config.half_steps} and {config.full_steps}")
        if config.estimator not in ("exact", *LOSSES):
            raise ConfigError(f"estimator must be gradient, regression or exact, got {config.estimator!r}")
        self.config, self.reference, self.network = config, reference, network
        self.anchor, self.rival = (deepcopy(network).requires_grad_(False) for _ in range(2))
        self.optimizers = {"policy": torch.optim.Adam(network.parameters(), config.lr)}
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self.register_buffer("outer", torch.zeros((), dtype=torch.long))

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # [N, d] -> [N, A]
        """log pi(. | x): the mixed policy itself is the action."""
        return self.log_policy(self.network, obs)

    def opponent(self, obs: Tensor) -> Tensor:  # [N, d] -> [N, A]
        """log-probabilities of the frozen policy that candidates are judged against."""
        return self.log_policy(self.rival, obs)

    def log_policy(self, network: nn.Module, obs: Tensor) -> Tensor:  # [N, d] -> [N, A]
        return torch.log_softmax(self.reference(obs) + network(obs), -1)

    def update(self, batch: Comparisons) -> Metrics:
        k = self.config
        total = k.beta + k.weight
        with torch.no_grad():
            pull = k.beta * self.reference(batch.context) + k.weight * self.log_policy(self.anchor, batch.context)
        log_pi = self.act(batch.context)
        if k.estimator == "exact":
            loss = exact_loss(log_pi, batch.preferred, pull, total)
        else:
            loss = LOSSES[k.estimator](log_pi, batch.first, batch.preferred, pull, total)
        optimizer = self.optimizers["policy"]
        for group in optimizer.param_groups:
            group["lr"] = k.lr / (1.0 + int(self.step) / k.decay)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        self.step += 1
        self.advance()
        return {"train/loss": loss.detach(), "train/proximal_steps": float(self.outer)}

    def advance(self) -> None:
        """Freeze what the schedule asks for."""
        place = int(self.step) % (self.config.half_steps + self.config.full_steps)
        if place in (0, self.config.half_steps):
            self.rival.load_state_dict(self.network.state_dict())
        if place == 0:
            self.anchor.load_state_dict(self.network.state_dict())
            self.outer += 1
