"""Proximal policy optimisation as a part: from consecutive rows and a reward to a better policy, for S runs at once.

    max E min(rho A, clip(rho, 1 - c, 1 + c) A) - w E (V - G)^2 + e H(pi),   rho = pi / pi_old at the action taken
    A = sum of discounted increments r + gamma V(x') - V(x), with a trace that fades in seconds,   G = A + V_old

An increment at a time limit takes V at the true next observation; only a termination takes none. The whole update stays
on its device and looks at no number of it: runs whose KL exceeds its target rest by a mask.
Source: Schulman et al., "Proximal policy optimization algorithms", 2017; Schulman et al., ICLR 2016, for A.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rlcore.agents.orpo.rows import apart, check_rows, divisor, merged, segments, split, together
from rlcore.agents.orpo.settings import PpoConfig, check_config
from rlcore.data import Transitions
from rlcore.functional.returns import traced_sum
from rlcore.nn.actor_critic import ActorCritic, View
from rlcore.nn.flat_adam import Descent, FlatAdam, Pace
from rlcore.nn.graphs import made
from rlcore.nn.random_stream import RandomStream
from rlcore.parallel import world

TOGETHER, FEW_ROWS = 4, 1024  # so many gradient steps are one graph, if each has no more rows than that


class Weights(NamedTuple):
    """What the terms of the loss weigh in an update."""

    entropy: Tensor  # []
    pull: Tensor  # [S]


class Proximal(nn.Module):
    """Networks, their optimiser and the update; what `Ppo` and `Orpo` hold."""

    gathered: Tensor  # [] int64, environment steps per run so far
    average: Tensor  # [S, P] mean of the weights over the last of them

    def __init__(self, networks: ActorCritic, config: PpoConfig, *, seed: int = 0) -> None:
        super().__init__()
        check_config(config)
        self.networks, self.config, self.head = networks, config, networks.head
        self.adam = FlatAdam(self, "loss", networks.seeds, compiled=config.compiled)
        self.stream = RandomStream(seed)
        self.pull_kind = "kl"
        """Which divergence a pull has: kl, chi2 or sqrt_chi2."""
        self.register_buffer("gathered", torch.zeros((), dtype=torch.long))
        self.register_buffer("average", self.adam.flat())
        self.passing: Callable[..., Tensor] = made(self.passes, ("at", "tally"), config.compiled)
        self.packing: Callable[..., Tensor] = made(self.pack, (), config.compiled)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:  # [B, d + M], [B, noise_dim] -> [B, m + M]
        """Actions, followed by what to remember if there is a memory; row b belongs to run b mod S."""
        seeds = self.networks.seeds
        rows, networks = apart(obs.unsqueeze(0), seeds)[0].float(), self.networks
        law, memory = networks.look(rows)[::2] if networks.memory_dim else (networks.alone(rows, "law"), None)
        action = self.head.act(law, None if noise is None else apart(noise.unsqueeze(0), seeds)[0].float())
        return together(action if memory is None else torch.cat([action, memory], -1)).to(obs.dtype)

    def averaged(self) -> ActorCritic:
        """A copy of the networks with the mean of their weights over `average_steps`; as they are before any update."""
        networks = deepcopy(self.networks)
        if int(self.gathered):
            mean = self.adam.named(self.average)
            networks.load_state_dict(
                {name.removeprefix("owner.networks."): x for name, x in mean.items()}, strict=False
            )
        return networks

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
        found = split(self.networks.alone(merged(apart(obs.float(), seeds)), "law"), steps)
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
        seeds = self.networks.seeds
        check_rows(batch)
        rows = batch.to(dtype=torch.float32)
        given = [apart(x, seeds) for x in (rows.obs, rows.next_obs, rows.action[..., : self.head.action_dim])]
        given += [apart(x, seeds) for x in (rows.reward, rows.discount, rows.dt, rows.extras["last"])]
        laws = None if reference is None else apart(reference.float(), seeds)
        packed = self.packing(*given, laws, dict(self.networks.named_parameters()))
        if shared:
            packed = world().whole(packed, 2)
        advantage, target, _, value, _ = self.columns(packed)[2].unbind(-1)
        spread, explained = advantage.std((0, 2)), 1.0 - (target - value).var((0, 2)) / (target.var((0, 2)) + 1e-8)
        advantage.sub_(advantage.mean((0, 2), keepdim=True)).div_(spread[:, None] + 1e-8)
        scaled_pull = pull / (spread + 1e-8)  # in the units of the reward, as advantages are divided
        seen = self.descend(segments(packed, self.length), scaled_pull)
        new = value[:, 0].numel()
        self.gathered += new
        self.average.lerp_(self.adam.flat(), new / self.gathered.clamp(max=max(self.config.average_steps, new)))
        names = ("kl", "surrogate", "value_loss", "entropy", "clipped")
        found = {f"train/{name}": x.mean() for name, x in zip(names, seen[:-1], strict=True)}
        return found | {
            "train/steps_share": seen[-1].mean(),
            "train/explained_variance": explained.mean(),
            "train/advantage_sd": spread.mean(),
        }

    def pack(
        self,
        obs: Tensor,
        after: Tensor,
        action: Tensor,
        reward: Tensor,
        discount: Tensor,
        dt: Tensor,
        last: Tensor,
        reference: Tensor | None,
        parameters: dict[str, Tensor],
    ) -> Tensor:  # all [K, S, n, ...] -> [K, S, n, C]
        """What the loss takes of a batch as one matrix, so that exchanging and shuffling it is one call each."""
        networks, steps = self.networks, len(reward)
        view: View = functional_call(networks, parameters, (merged(obs),))
        ahead = split(functional_call(networks, parameters, (merged(after), "value")), steps)
        value = split(view.value, steps)
        advantage = traced_sum(reward + discount * ahead - value, discount, dt, last, self.config.trace_time)
        old_log = split(self.head.log_prob(view.law, merged(action)), steps)
        numbers = torch.stack([advantage, advantage + value, old_log, value, last.to(value.dtype)], -1)
        return torch.cat([obs, action, numbers] if reference is None else [obs, action, numbers, reference], -1)

    def columns(self, packed: Tensor) -> tuple[Tensor, ...]:
        """Observations, actions, five numbers and laws of reference, of which there may be none: views of it."""
        widths = [self.networks.observation_dim + self.networks.memory_dim, self.head.action_dim, 5]
        return torch.split(packed, [*widths, packed.shape[-1] - sum(widths)], -1)

    def unpack(self, rows: Tensor, weights: Weights) -> tuple[Tensor, ...]:
        """The arguments of `loss` from such a matrix."""
        obs, action, numbers, reference = self.columns(rows)
        scaled, target, old_log, value, last = numbers.unbind(-1)
        given = (obs, last > 0.5, action, scaled, target, old_log, value, weights.entropy)
        return (*given, reference, weights.pull) if reference.shape[-1] else given

    @property
    def length(self) -> int:
        """Steps along which gradients flow."""
        return self.config.sequence if self.networks.memory_dim else 1

    def descend(self, packed: Tensor, pull: Tensor) -> list[Tensor]:
        """The gradient steps; means over those taken of what the loss shows, and the share that was taken, [S] each."""
        config, count, device, here = self.config, packed.shape[2], packed.device, world()
        size = min(max(1, config.minibatch // self.length), count)
        share, many = here.share(size, "the rows of a minibatch"), count // size
        done = (self.gathered / config.anneal_steps).clamp(max=1.0)
        rate = annealed(config.rate, config.rate_final, done)
        entropy = annealed(config.entropy, config.entropy_final, done)
        active = torch.ones(self.networks.seeds, device=device)
        at, pace = self.adam.begin(), Pace(rate, config.gradient_clip, 1.5 * config.target_kl)
        tally = torch.zeros(6, len(active), device=device)
        few = share * self.length <= FEW_ROWS
        together = share * (math.gcd(many, TOGETHER) if few and here.alone else 1)
        part = share if few or not config.compiled or device.type != "cpu" else divisor(share, FEW_ROWS // self.length)
        weights = Weights(entropy, pull)
        for _ in range(config.epochs):
            order = torch.randperm(count, generator=self.stream.on(device), device=device)
            mine = here.own(order[: many * size].view(-1, size), 1).flatten()
            for rows in packed.index_select(2, mine).split_with_sizes([together] * (len(mine) // together), 2):
                if here.alone and part == share:
                    active = self.passing(at, pace, active, tally, rows, share, weights)
                else:
                    active = self.step_in_parts(at, pace, active, tally, rows, part, weights)
            if device.type == "cpu" and not bool(active.any()):
                break  # nothing would move any more; on a GPU looking costs more than going on
        self.adam.store(at.flat)
        return [*(tally[:-1] / tally[-1].clamp(min=1.0)), tally[-1] / (config.epochs * many)]

    def passes(
        self, at: Descent, pace: Pace, active: Tensor, tally: Tensor, rows: Tensor, size: int, weights: Weights
    ) -> Tensor:
        """Gradient steps on `size` columns of rows [L, S, N, C] at a time; `tally` [6, S] counts in place."""
        for part in torch.split(rows, size, 2):
            active, _, *seen = self.adam.take(at, pace, active, self.unpack(part, weights))
            tally += active * torch.stack([*seen, torch.ones_like(active)])
        return active

    def step_in_parts(
        self, at: Descent, pace: Pace, active: Tensor, tally: Tensor, rows: Tensor, size: int, weights: Weights
    ) -> Tensor:
        """One gradient step, the mean of those of `size` columns at a time."""
        parts = [self.unpack(part, weights) for part in torch.split(rows, size, 2)]
        active, _, *seen = self.adam.step_over(at, pace, active, parts)
        tally += active * torch.stack([*seen, torch.ones_like(active)])
        return active


def annealed(start: float, final: float | None, share: Tensor) -> Tensor:  # [] -> []
    """start + share (final - start)."""
    return start + share * ((start if final is None else final) - start)
