"""Conservative Q-learning and its calibrated form, with the soft actor-critic step underneath.

    L = L_TD + alpha E[ log-sum-exp_u Q(x, u) - Q(x, u_data) ]       CQL(H)
    Q(x, u) -> max(Q(x, u), G(x)) for u ~ pi inside the first term    Cal-QL, G the return that followed x in the data

The actions of the first term are n uniform ones, n of pi(x) and n of pi(x'), all evaluated at x. Only a few random
members of the ensemble enter the regulariser, the others are never evaluated there: the same expectation for a fraction
of the arithmetic. With a gap set, alpha is a multiplier that holds the mean difference at that gap.
Sources: Kumar et al., NeurIPS 2020; Nakamoto et al., NeurIPS 2023; Zhou et al., ICLR 2025, for the ensemble.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, final

import torch
from torch import Tensor, nn

from rlcore.agents.actor_critic.networks import Networks, Spaces, check_extra, check_rates, slices
from rlcore.agents.actor_critic.soft import SacConfig, SoftCore
from rlcore.checks import check_not_negative, check_numbers, check_positive
from rlcore.data import Transitions
from rlcore.errors import ConfigError
from rlcore.functional.losses import calibrated, conservative_gap, over_seeds
from rlcore.nn.ensemble import draw_members, one_of
from rlcore.nn.steps import Named, Seen, adam, descend
from rlcore.nn.tanh_gaussian import squash
from rlcore.nn.updates import Steps
from rlcore.training.agent import Agent, Metrics


@dataclass(frozen=True)
class CqlConfig:
    """Settings of `Cql`."""

    sac: SacConfig = field(default_factory=lambda: SacConfig(target_actions=10))
    """The step underneath; the best of ten next actions is WSRL's choice for every task."""
    weight: float = 5.0
    """alpha, or where the multiplier starts."""
    calibrate: bool = False
    """Whether values of the policy's actions are bounded below by the returns in the data (Cal-QL)."""
    calibrate_uniform: bool = False
    """Whether those of the uniform actions are, too."""
    importance: bool = True
    """Whether actions are weighted by the inverse of their density; else the data's action joins them."""
    actions: int = 10
    """n, sampled actions of each kind."""
    regularised: int = 2
    """Members of the ensemble that enter the regulariser, drawn at each update."""
    gap: float | None = None
    """Mean difference that a multiplier enforces; None keeps alpha fixed."""
    multiplier_rate: float = 3e-4
    """Learning rate of Adam for the multiplier."""
    least_gap: float = -math.inf
    """Differences below it are not pushed further; CORL uses -200 on AntMaze."""


@final
class Cql(Agent[Transitions]):
    """Conservative Q-learning, and Cal-QL, from a data set.

    Learns from rows [N, ...], or [S, N, ...] with S seeds; Cal-QL needs `mc_return` in their extras.
    """

    def __init__(self, spaces: Spaces, config: CqlConfig = CqlConfig(), *, seed: int = 0, seeds: int = 1) -> None:
        super().__init__()
        check_not_negative("weight", config.weight)
        check_rates(multiplier_rate=config.multiplier_rate)
        if min(config.actions, config.regularised) < 1:
            raise ConfigError("actions and regularised must be at least 1")
        self.config = config
        self.core = SoftCore(spaces, config.sac, seed=seed, seeds=seeds)
        self.noise_dim = spaces.action_dim
        self.optimizers = dict(self.core.optimizers)
        self.raw_multiplier: nn.Parameter | None = None
        if config.gap is not None:
            check_numbers("gap", config.gap)
            check_positive("weight", config.weight)
            start = config.weight + math.log(-math.expm1(-config.weight))  # softplus(start) = weight
            self.raw_multiplier = nn.Parameter(torch.full((seeds,), start))
            self.optimizers["multiplier"] = adam([self.raw_multiplier], config.multiplier_rate)
        self.learning = self.core.update_of(self.advance, (self, "loss"), config, whole=False)

    @property
    def networks(self) -> Networks:
        return self.core.networks

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.networks.act(obs, noise)

    def update(self, batch: Transitions) -> Metrics:
        core, rows = self.core, self.networks.rows(batch)
        temperature, parts = core.temperature.detach(), []
        for part in slices(rows, core.config.critic_steps):
            drawn = self.drawn(part)
            parts.append((part.obs, part.action, core.ahead(part, temperature), *drawn))
        return {**self.learning(parts, rows.obs, rows.next_obs, core.policy_noise(rows), temperature)}

    def advance(
        self,
        step: Steps,
        parts: list[tuple[Any, ...]],
        obs: Tensor,
        after: Tensor,
        noise: Seen,
        temperature: Tensor,
    ) -> Named:
        """The steps of an update: critics and multiplier on each part, the others on all rows [S, N, ...]."""
        for part in parts:
            _, td, q, gap = step["critic"](*part, self.multiplier)
            self.learn_multiplier(gap)
        shown = {
            "train/critic_loss": td / self.networks.seeds,
            "train/q": q.mean(),
            "train/conservative_gap": gap.mean(),
        }
        return shown | self.core.learn_policy(step, obs, after, noise, temperature)

    def drawn(self, rows: Transitions) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For the regulariser: members [S, k], actions [S, 3n, N, m] with their log-density, and the bound [S, N]."""
        net = self.networks
        chosen = draw_members(
            net.seeds,
            net.critics.members,
            self.config.regularised,
            generator=self.core.random.on(rows.obs.device),
            replacement=True,
        )
        bound = rows.reward
        if self.config.calibrate:
            bound = check_extra(rows, "mc_return", "add returns_to_go(...) to the data set")
        return chosen, *self.sampled_actions(rows), bound

    def loss(
        self,
        obs: Tensor,
        action: Tensor,
        ahead: Seen,
        chosen: Tensor,
        sampled: Tensor,
        log_density: Tensor,
        bound: Tensor,
        multiplier: Tensor,
    ) -> tuple[Tensor, Seen]:
        """L, and the TD part of it, Q of the data [S, E, N] and the differences [S, k, N]."""
        td, (q,) = self.core.critic_loss(obs, action, *ahead)
        gap = self.gap(obs, q, chosen, sampled, log_density, bound)
        return td + self.penalty(gap, multiplier), (td, q, gap)

    def gap(
        self, obs: Tensor, q: Tensor, chosen: Tensor, action: Tensor, log_density: Tensor, bound: Tensor
    ) -> Tensor:  # -> [S, k, N]
        """log-sum-exp over the sampled actions minus Q of the data, for the members drawn."""
        config, count = self.config, action.shape[1]
        here = obs.unsqueeze(1).expand(-1, count, -1, -1)
        sampled = self.networks.q(here.flatten(1, 2), action.flatten(1, 2), chosen)
        sampled = sampled.view(*sampled.shape[:2], count, -1)  # [S, k, 3n, N]
        if config.calibrate:
            first = 0 if config.calibrate_uniform else config.actions
            sampled = torch.cat([sampled[:, :, :first], calibrated(sampled[:, :, first:], bound)], dim=2)
        data = one_of(chosen, q.shape[1], q) @ q  # [S, k, N]; compiled, the gradient of a gather came too late
        return conservative_gap(sampled, data, log_density if config.importance else None)

    @torch.no_grad()
    def sampled_actions(self, rows: Transitions) -> tuple[Tensor, Tensor]:  # -> [S, 3n, N, m], [S, 3n, N]
        """Uniform actions, those of pi(x) and those of pi(x'), with the log-density of each."""
        seeds, count, m = self.networks.seeds, rows.reward.shape[1], rows.action.shape[-1]
        shape = (seeds, self.config.actions, count, m)
        uniform = self.core.random.uniform(*shape, like=rows.action)
        actions, densities = [uniform], [torch.full_like(uniform[..., 0], -m * math.log(2.0))]
        for obs in (rows.obs, rows.next_obs):
            mean, log_scale = (x.unsqueeze(1) for x in self.networks.policy.law(obs))
            action, log_prob = squash(mean, log_scale, self.core.random.normal(*shape, like=mean))
            actions.append(action)
            densities.append(log_prob)
        return torch.cat(actions, dim=1), torch.cat(densities, dim=1)

    @property
    def multiplier(self) -> Tensor:  # [S]
        """alpha, fixed or learned."""
        if self.raw_multiplier is None:
            return self.core.raw_temperature.new_full((self.networks.seeds,), self.config.weight)
        return nn.functional.softplus(self.raw_multiplier.detach())

    def penalty(self, gap: Tensor, multiplier: Tensor) -> Tensor:  # [S, k, N], [S] -> []
        """alpha E[gap - the gap asked for], the latter 0 if alpha is fixed."""
        return over_seeds(multiplier[:, None, None] * (gap.clamp(min=self.config.least_gap) - (self.config.gap or 0.0)))

    def learn_multiplier(self, gap: Tensor) -> None:
        """Raise the multiplier where the mean difference exceeds the gap, lower it where it stays below."""
        if self.raw_multiplier is not None:
            excess = gap.flatten(1).mean(1) - (self.config.gap or 0.0)  # [S]
            descend(self.optimizers["multiplier"], -(nn.functional.softplus(self.raw_multiplier) * excess).sum())


def cal_ql(spaces: Spaces, config: CqlConfig = CqlConfig(), *, seed: int = 0, seeds: int = 1) -> Cql:
    """Cal-QL: `Cql` whose values are calibrated by the returns of the data."""
    return Cql(spaces, replace(config, calibrate=True), seed=seed, seeds=seeds)
