"""Replay actor-critic in continuous time: networks for J, q and the policy, learned off-policy from windows.

    delta = sum r dt - int q ds + D J_target(X_L) - J(X_0)            over a window of fixed physical length
    J: theta += alpha dJ(X_0)/dtheta delta       q: psi += alpha dq(X_0, u_0)/dpsi delta
    policy: maximise E_x E_{a ~ pi(x)}[A(x, a) - gamma log pi(a | x)]

(J, q) of the policy of the moment are the pair for which delta has mean zero under any behaviour, so that rows of old
policies serve without importance weights; q satisfies the consistency condition by `NormalisedQ`. With a Gaussian actor
and gamma > 0 this is a soft actor-critic (`ct_sac`), with a deterministic one and gamma = 0 a deterministic policy
gradient (`ct_ddpg`). All rates and the target's time constant are per second, and delta spans a window, so nothing here
knows dt. The behaviour's noise must be held over at least a window (`HeldSource`): noise redrawn at every step averages
out as dt -> 0 and tells nothing about q, and where it changes within the window only a smoothed q is found. Some paths
should act without noise: q vanishes there, which pins J. `ReplaySource` over a `WindowSource` makes the rows.
Sources: Jia and Zhou, "q-Learning in continuous time", JMLR 24 (2023) 161; Cheng, Guo and Zhang, arXiv 2509.23711, for
the deterministic policy gradient; Han and Ji, "Continuous soft actor-critic", 2025, for a martingale critic and replay.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rlcore.agents.martingale.ascent import Ascent, Steps, update_of
from rlcore.agents.martingale.online import check_alive, check_clip, is_alive, rated_optimizer, seconds_of
from rlcore.checks import check_not_negative, check_positive
from rlcore.data import Transitions
from rlcore.errors import ShapeError
from rlcore.nn.graphs import Compiled
from rlcore.nn.mlp import Mlp, Scalar
from rlcore.nn.normalised_q import NormalisedQ
from rlcore.nn.squashed import Actor, SquashedFeedback, SquashedGaussian
from rlcore.nn.steps import Following, Named, Seen
from rlcore.parallel import world
from rlcore.simulation.environment import ControlSpec
from rlcore.training.agent import Agent, Metrics
from rlcore.training.windows import node_integral

FUSED = partial(torch.optim.Adam, fused=True)


@dataclass(frozen=True)
class DeepConfig:
    """Settings of `DeepActorCritic`. Times are physical, so they stay when dt changes."""

    temperature: float = 0.02
    """gamma, the weight of the entropy [reward per second]; 0 for a deterministic actor."""
    critic_rate: float = 0.06
    """Learning rate of Adam for J and q [1/s]."""
    actor_rate: float = 0.06
    """Learning rate of Adam for the policy [1/s]."""
    decay_time: float = 0.0
    """The rates are divided by 1 + (t / decay_time)^2, t the physical time per path seen so far [s]; 0 keeps them."""
    update_interval: float = 0.025
    """Physical time between two updates, per path [s]."""
    target_time: float = 0.5
    """Time constant [s] with which a copy of J follows it, from which J(X_L) is taken."""
    gradient_clip: float = 10.0
    """Largest Euclidean norm of the gradient of an update."""
    compiled: Compiled = False
    """Whether an update is one graph of `torch.compile`: up to a minute once, then faster; equal to rounding only.
    'graph' records it on a GPU."""


class DeepActorCritic(Agent[Transitions]):
    """(J, q) by martingale orthogonality on replayed windows, and a policy that climbs q.

    Raises `NumericsError` when it diverges.
    """

    elapsed: Tensor  # [] s

    def __init__(
        self,
        value: nn.Module,  # J: [*, d] -> [*]
        q: NormalisedQ,
        actor: nn.Module,  # an `Actor`
        config: DeepConfig = DeepConfig(),
    ) -> None:
        super().__init__()
        check_not_negative("temperature", config.temperature)
        check_clip(config.gradient_clip)
        check_not_negative("decay_time", config.decay_time, "s")
        for name in ("critic_rate", "actor_rate", "update_interval", "target_time"):
            check_positive(name, getattr(config, name))
        self.value, self.q, self.actor, self.config = value, q, actor, config
        self.target = copy.deepcopy(value).requires_grad_(False)
        self.noise_dim = self._actor.noise_dim
        self.register_buffer("elapsed", torch.zeros((), dtype=torch.float64))
        critic = ([*value.parameters(), *q.parameters()], config.critic_rate)
        self.optimizers["critic"] = rated_optimizer(FUSED, [critic])
        self.optimizers["actor"] = rated_optimizer(FUSED, [(list(actor.parameters()), config.actor_rate)])
        following = Following(self.target, value, -math.expm1(-config.update_interval / config.target_time))
        both = {"critic": following, "actor": None}
        ascents = {
            name: Ascent(f"{name}_objective", self.optimizers[name], config.gradient_clip, slow)
            for name, slow in both.items()
        }
        self.learning = update_of(self, self.advance, ascents, compiled=config.compiled)

    @property
    def _actor(self) -> Actor:
        return self.actor  # type: ignore[return-value]

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self._actor.act(obs, noise)

    def q_rate(self, obs: Tensor, action: Tensor) -> Tensor:  # [*, d], [*, m] -> [*]
        """q(x, a) of the policy of the moment, reward per second."""
        return self.q(obs, action, self._actor.cloud(obs), self.config.temperature)  # type: ignore[no-any-return]

    def critic_objective(self, columns: Mapping[str, Any], seconds: Tensor) -> Seen:
        """What J and q climb [], whether they may [], delta, J and q [*]."""
        batch = Transitions(**columns)
        with torch.no_grad():
            cloud = self._actor.cloud(batch.obs)
            running = node_integral(batch, self.q_rate(batch.extras["node_obs"], batch.extras["node_action"]))
            reached = batch.reward - running + batch.discount * self.target(batch.next_obs)
        value, q = self.value(batch.obs), self.q(batch.obs, batch.action, cloud, self.config.temperature)
        delta = (reached - value).detach()
        return ((value + q) * delta).sum() / seconds, is_alive(delta, batch.dt, seconds), delta, value, q

    def actor_objective(self, obs: Tensor, alive: Tensor) -> Seen:
        """What the policy climbs [], whether it may, and once more for the metrics."""
        found = self.q.mean(obs, self._actor.cloud(obs), self.config.temperature).mean()
        return found, alive, found

    def advance(self, step: Steps, columns: Mapping[str, Any], seconds: Tensor, elapsed: Tensor) -> Named:
        """The steps of an update, and the elapsed time after it."""
        config = self.config
        share = elapsed / config.decay_time if config.decay_time else torch.zeros_like(elapsed)
        pace = config.update_interval / (1.0 + share.square())  # s
        alive, delta, value, q = step["critic"](pace, columns, seconds)
        _, objective = step["actor"](pace, columns["obs"], alive)
        return {
            "alive": alive,
            "elapsed": torch.where(alive, elapsed + config.update_interval, elapsed),
            "train/residual_mean": delta.mean(),
            "train/residual_sd": delta.std(),
            "train/value": value.mean(),
            "train/q_sd": q.std(),
            "train/actor_objective": objective,
        }

    def update(self, batch: Transitions) -> Metrics:
        if "node_obs" not in batch.extras:
            raise ShapeError("the rows must be windows, with node_obs in their extras; put a WindowSource before them")
        batch = batch.to(dtype=next(self.value.parameters()).dtype)  # a replay keeps float32; networks may be float64
        seconds = world().mean(batch.dt.sum())
        metrics = self.learning(vars(batch), seconds, self.elapsed)
        if not bool(metrics.pop("alive")):
            delta, time = self.critic_objective(vars(batch), seconds)[2], seconds_of(batch.dt)
            check_alive("replay actor-critic", delta, time, self.elapsed, lambda: "lower critic_rate or actor_rate")
        self.elapsed.copy_(metrics.pop("elapsed"))
        return metrics


def ct_sac(
    spec: ControlSpec,
    config: DeepConfig = DeepConfig(),
    *,
    generator: torch.Generator,
    hidden: Sequence[int] = (64, 64),
    input_scale: Sequence[float] | None = None,
) -> DeepActorCritic:
    """Continuous-time soft actor-critic for a problem with a box of actions: a squashed Gaussian actor, entropy."""
    network = _network(spec.observation_dim, hidden, 2 * spec.action_dim, generator, input_scale)
    actor = SquashedGaussian(network, spec.action_dim, spec.action_low, spec.action_high)
    return _assemble(spec, config, actor, generator, hidden, input_scale)


def ct_ddpg(
    spec: ControlSpec,
    config: DeepConfig = DeepConfig(temperature=0.0),
    *,
    generator: torch.Generator,
    hidden: Sequence[int] = (64, 64),
    input_scale: Sequence[float] | None = None,
    exploration: float = 1.0,
) -> DeepActorCritic:
    """Continuous-time deterministic policy gradient; explores with `exploration` half-widths of the box."""
    network = _network(spec.observation_dim, hidden, spec.action_dim, generator, input_scale)
    actor = SquashedFeedback(network, spec.action_dim, spec.action_low, spec.action_high, exploration=exploration)
    return _assemble(spec, config, actor, generator, hidden, input_scale)


def _network(
    inputs: int, hidden: Sequence[int], outputs: int, generator: torch.Generator, scale: Sequence[float] | None
) -> Mlp:
    return Mlp(inputs, hidden, outputs, generator=generator, activation=nn.ReLU, output_gain=0.01, input_scale=scale)


def _assemble(
    spec: ControlSpec,
    config: DeepConfig,
    actor: nn.Module,
    generator: torch.Generator,
    hidden: Sequence[int],
    input_scale: Sequence[float] | None,
) -> DeepActorCritic:
    half = 0.5 * (spec.action_high - spec.action_low)
    scale = [1.0] * spec.observation_dim if input_scale is None else list(input_scale)
    common: dict[str, Any] = {"generator": generator, "activation": nn.ReLU}
    value = Mlp(spec.observation_dim, hidden, 1, input_scale=scale, **common)
    inputs, scale = spec.observation_dim + spec.action_dim, [*scale, *[1.0 / half] * spec.action_dim]
    advantage = Mlp(inputs, hidden, 1, output_gain=0.01, input_scale=scale, **common)
    return DeepActorCritic(Scalar(value), NormalisedQ(Scalar(advantage)), actor, config)
