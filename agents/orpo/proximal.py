"""Proximal policy optimisation as a part: from consecutive rows and a reward to a better policy, for S runs at once.

    max E min(rho A, clip(rho, 1 - c, 1 + c) A) - w E (V - G)^2 + e H(pi),   rho = pi / pi_old at the action taken
    A = sum of discounted increments r + gamma V(x') - V(x), with a trace that fades in seconds,   G = A + V_old

An increment at a time limit takes V at the true next observation; only a termination takes none. The whole update stays
on its device and looks at no number of it: runs whose KL exceeds its target rest by a mask.
Source: Schulman et al., "Proximal policy optimization algorithms", 2017; Schulman et al., ICLR 2016, for A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlcore.checks import check_integer, check_not_negative, check_numbers, check_positive
from rlcore.data import Transitions
from rlcore.errors import ConfigError, ShapeError
from rlcore.functional.returns import traced_sum
from rlcore.nn.actor_critic import ActorCritic
from rlcore.nn.flat_adam import FlatAdam
from rlcore.nn.random_stream import RandomStream
from rlcore.parallel import world


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
    sequence: int = 16
    """With a memory: steps along which gradients flow; it must divide the steps of a batch."""
    compiled: bool = False
    """Whether a gradient step is one compiled graph: 20 to 60 s once, then about twice as fast on small networks."""


class Proximal(nn.Module):
    """Networks, their optimiser and the update; what `Ppo` and `Orpo` hold."""

    gathered: Tensor  # [] int64, environment steps per run so far

    def __init__(self, networks: ActorCritic, config: PpoConfig, *, seed: int = 0) -> None:
        super().__init__()
        check_config(config)
        self.networks, self.config, self.head = networks, config, networks.head
        self.adam = FlatAdam(self, "loss", networks.seeds, compiled=config.compiled)
        self.stream = RandomStream(seed)
        self.pull_kind = "kl"
        """Which divergence a pull has: kl, chi2 or sqrt_chi2."""
        self.register_buffer("gathered", torch.zeros((), dtype=torch.long))

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:  # [B, d + M], [B, noise_dim] -> [B, m + M]
        """Actions, followed by what to remember if there is a memory; row b belongs to run b mod S."""
        seeds = self.networks.seeds
        view = self.networks.look(apart(obs.unsqueeze(0), seeds)[0].float())
        action = self.head.act(view.law, None if noise is None else apart(noise.unsqueeze(0), seeds)[0].float())
        return together(torch.cat([action, view.memory], -1)).to(obs.dtype)

    def loss(
        self,
        obs: Tensor,
        last: Tensor,
        action: Tensor,
        advantage: Tensor,
        target: Tensor,
        old_log: Tensor,
        old_value: Tensor,
        entropy_weight: Tensor,
        reference: Tensor | None = None,
        pull: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Loss of each run [S], and KL, surrogate, value loss, entropy, clipped share; columns are [L, S, N, ...].

        `reference` holds laws that `pull` [S] draws the policy to.
        """
        config, head = self.config, self.head
        law, value = self.networks.along(obs, last)
        log_ratio = head.log_prob(law, action) - old_log
        ratio = log_ratio.exp()
        inside = ratio.clamp(1.0 - config.clip, 1.0 + config.clip)
        gain = torch.minimum(ratio * advantage, inside * advantage).mean((0, 2))
        error = (value - target).square()
        if config.value_clip < math.inf:
            held = old_value + (value - old_value).clamp(-config.value_clip, config.value_clip)
            error = torch.maximum(error, (held - target).square())
        misfit, entropy = error.mean((0, 2)), head.entropy(law).mean((0, 2))
        total = config.value_weight * misfit - gain - entropy_weight * entropy
        if reference is not None:
            assert pull is not None
            total = total + pull * self.distance(law, reference).mean((0, 2))
        kl = (ratio - 1.0 - log_ratio).mean((0, 2))
        return total, (kl, gain, misfit, entropy, (ratio != inside).to(ratio).mean((0, 2)))

    def distance(self, law: Tensor, reference: Tensor) -> Tensor:  # [*, P], [*, P] -> [*]
        """The divergence from a reference; an infinite chi^2 is replaced by the KL."""
        kl = self.head.kl(law, reference)
        if self.pull_kind == "kl":
            return kl
        chi2 = self.head.chi_squared(law, reference)
        chi2 = torch.where(chi2.isfinite(), chi2, kl)
        return chi2 if self.pull_kind == "chi2" else chi2.clamp(min=1e-6).sqrt()

    def law(self, obs: Tensor) -> Tensor:  # [K, B, d + M] -> [K, B, P]
        """Parameters of the head at the rows of a batch."""
        seeds, steps = self.networks.seeds, len(obs)
        found = split(self.networks.look(merged(apart(obs.float(), seeds))).law, steps)
        return found.transpose(1, 2).flatten(1, 2)

    @torch.no_grad()
    def improve(
        self,
        batch: Transitions,
        *,
        reference: Tensor | None = None,
        pull: float | Tensor = 0.0,
        shared: bool = True,
    ) -> dict[str, Tensor]:
        """Epochs of gradient steps on consecutive rows [K, B]; `reference` are laws [K, B, P] to be drawn to.

        Among several processes the rows are a `shared` batch's, or else all have the whole of it. The columns are
        exchanged once, after which every minibatch is the one that a single process would take, each doing its share.
        """
        config, networks = self.config, self.networks
        check_rows(batch)
        rows = batch.to(dtype=torch.float32)
        obs, after, action = (apart(x, networks.seeds) for x in (rows.obs, rows.next_obs, rows.action))
        reward, discount, dt, last = (
            apart(x, networks.seeds) for x in (rows.reward, rows.discount, rows.dt, rows.extras["last"])
        )  # [K, S, n]
        action = action[..., : self.head.action_dim]
        steps = len(obs)
        view = networks.look(merged(obs))
        value = split(view.value, steps)
        delta = reward + discount * split(networks.look(merged(after)).value, steps) - value
        advantage = traced_sum(delta, discount, dt, last, config.trace_time)
        old_log = split(self.head.log_prob(view.law, merged(action)), steps)
        columns = [obs, last, action, advantage, old_log, value]
        if reference is not None:
            columns.append(apart(reference.float(), networks.seeds))
        if shared:
            columns = [world().whole(x, 2) for x in columns]
        obs, last, action, advantage, old_log, value, *laws = columns
        target = advantage + value
        spread = advantage.std((0, 2), keepdim=True)
        scaled = (advantage - advantage.mean((0, 2), keepdim=True)) / (spread + 1e-8)
        columns = [obs, last, action, scaled, target, old_log, value, *laws]
        length = config.sequence if networks.memory_dim else 1
        columns = [segments(x, length) for x in columns]  # [L, S, N, ...]
        scaled_pull = pull / (spread[0, :, 0] + 1e-8)  # in the units of the reward, as advantages are divided
        seen = self.descend(columns, length, scaled_pull)
        self.gathered += value[:, 0].numel()
        names = ("kl", "surrogate", "value_loss", "entropy", "clipped")
        found = {f"train/{name}": x.mean() for name, x in zip(names, seen[:-1], strict=True)}
        unexplained = (target - value).var((0, 2)) / (target.var((0, 2)) + 1e-8)
        return found | {
            "train/steps_share": seen[-1].mean(),
            "train/explained_variance": 1.0 - unexplained.mean(),
            "train/advantage_sd": spread.mean(),
        }

    def descend(self, columns: list[Tensor], length: int, pull: Tensor) -> list[Tensor]:
        """The gradient steps; means over those taken of what the loss shows, and the share that was taken, [S] each."""
        config, count, here = self.config, columns[0].shape[2], world()
        device = columns[0].device
        size = min(max(1, config.minibatch // length), count)
        share, whole = here.share(size, "the rows of a minibatch"), count - count % size
        done = (self.gathered / config.anneal_steps).clamp(max=1.0)
        rate = annealed(config.rate, config.rate_final, done)
        entropy = annealed(config.entropy, config.entropy_final, done)
        active = torch.ones(self.networks.seeds, device=device)
        limit = 1.5 * config.target_kl
        flat, taken = self.adam.flat(), torch.zeros_like(active)
        sums: list[Tensor] = []
        for _ in range(config.epochs):
            order = torch.randperm(count, generator=self.stream.on(device), device=device)
            mine = here.own(order[:whole].view(-1, size), 1).flatten()
            shuffled = [x.index_select(2, mine) for x in columns]
            for first in range(0, len(mine), share):
                part = [x.narrow(2, first, share).contiguous() for x in shuffled]
                extra = (part[7], pull) if len(part) > 7 else ()
                given = (*part[:7], entropy, *extra)
                active, _, *seen = self.adam.step(flat, rate, config.gradient_clip, active, limit, *given)
                sums = [active * x if not sums else s + active * x for s, x in zip(sums or seen, seen, strict=True)]
                taken += active
            if device.type == "cpu" and not bool(active.any()):
                break  # nothing would move any more; on a GPU looking costs more than going on
        self.adam.store(flat)
        planned = config.epochs * (count // size)
        return [s / taken.clamp(min=1.0) for s in sums] + [taken / planned]


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
    for name in ("epochs", "minibatch", "anneal_steps", "sequence"):
        check_integer(name, getattr(config, name))
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} must be at least 1, got {getattr(config, name)}")


def check_rows(batch: Transitions) -> None:
    """Raise unless these are consecutive rows."""
    if batch.reward.dim() != 2 or "last" not in batch.extras:
        raise ShapeError(
            f"expected consecutive rows [K, B] with extras['last'], got {list(batch.reward.shape)}; use RolloutSource"
        )


def annealed(start: float, final: float | None, share: Tensor) -> Tensor:  # [] -> []
    """start + share (final - start)."""
    return start + share * ((start if final is None else final) - start)


def apart(x: Tensor, seeds: int) -> Tensor:  # [K, B, ...] -> [K, S, B / S, ...]
    """Rows by run, row b belonging to run b mod S."""
    if x.shape[1] % seeds:
        raise ShapeError(f"{x.shape[1]} paths cannot be shared out over {seeds} runs; give a multiple of them")
    return x.reshape(len(x), -1, seeds, *x.shape[2:]).transpose(1, 2)


def together(x: Tensor) -> Tensor:  # [S, N, ...] -> [N S, ...]
    """The inverse for one step."""
    return x.transpose(0, 1).flatten(0, 1)


def merged(x: Tensor) -> Tensor:  # [K, S, n, ...] -> [S, K n, ...]
    """All steps of a run side by side."""
    return x.transpose(0, 1).flatten(1, 2)


def split(x: Tensor, steps: int) -> Tensor:  # [S, K n, ...] -> [K, S, n, ...]
    """The inverse."""
    return x.reshape(len(x), steps, -1, *x.shape[2:]).transpose(0, 1)


def segments(x: Tensor, length: int) -> Tensor:  # [K, S, n, ...] -> [L, S, K / L n, ...]
    """Sequences of L consecutive steps side by side."""
    if len(x) % length:
        raise ConfigError(f"sequence must divide the {len(x)} steps of a batch, got {length}")
    pieces = x.reshape(-1, length, *x.shape[1:]).transpose(0, 1)  # [L, K / L, S, n, ...]
    return pieces.transpose(1, 2).flatten(2, 3)
