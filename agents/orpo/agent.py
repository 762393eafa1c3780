"""Occupancy-regularised policy optimisation: PPO on a proxy less a penalty on leaving what a reference visits.

    max over pi of J(pi, P) - lambda sqrt(chi^2(mu_pi | mu_0))

With lambda* = sd(P) sqrt(1 - r^2) that is a lower bound on the gain of any true reward whose correlation with the
proxy on the reference is r. Other penalties, and those on actions, are kinds of the same regulariser.
Source: Laidlaw, Singhal and Dragan, "Correlated proxies", ICLR 2025, section 5.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlcore.agents.orpo.ppo import DEFAULT, HeadKind, Ppo, averaged, ppo
from rlcore.agents.orpo.proximal import Proximal
from rlcore.agents.orpo.regularizer import Law, OccupancyRegularizer, RegularizerConfig
from rlcore.agents.orpo.rows import check_rows
from rlcore.agents.orpo.settings import PpoConfig
from rlcore.data import Transitions
from rlcore.errors import ConfigError
from rlcore.nn.actor_critic import TWO_OF_64, Memory
from rlcore.nn.ensemble import Layers
from rlcore.parallel import world
from rlcore.simulation.environment import ControlSpec
from rlcore.training.agent import Agent, Metrics

SQRT_CHI2 = RegularizerConfig()


class Orpo(Agent[Transitions]):
    """On-policy updates from rows [K, B] of a `RolloutSource`, with a regulariser; make one with `orpo`.

    `base_law` gives the reference's parameters of the policy's head, [N, d] -> [N, P]: needed to penalise actions, and
    to watch their divergence.
    """

    def __init__(self, proximal: Proximal, regularizer: OccupancyRegularizer, base_law: Law | None = None) -> None:
        super().__init__()
        if regularizer.action_divergence is not None and base_law is None:
            raise ConfigError(
                f"a penalty on actions ({regularizer.config.kind}) needs the law of the reference; give base_law"
            )
        self.proximal, self.regularizer, self.base_law = proximal, regularizer, base_law
        proximal.pull_kind = regularizer.action_divergence or "kl"
        self.noise_dim, self.memory_dim = proximal.head.noise_dim, proximal.networks.memory_dim

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.proximal.act(obs, noise)

    def update(self, batch: Transitions) -> Metrics:
        check_rows(batch)
        batch = batch.map(lambda x: world().whole(x, 1))  # an occupancy is that of all rows
        regularizer, reference = self.regularizer, None
        price, stats = regularizer.fit(batch)
        metrics = {name: value.mean() for name, value in stats.items()}
        alarms = [value for name, value in stats.items() if name.startswith("hack/alarm_")]
        metrics["hack/alarm"] = torch.stack(alarms).amax()
        if self.base_law is not None:
            reference = self.base_law(batch.obs[..., : self.proximal.networks.observation_dim])
            metrics["div/ad_kl"] = self.action_kl(batch.obs, reference)
        shaped = batch.replace(reward=batch.reward - price.to(batch.reward.dtype))
        pull = regularizer.action_divergence is not None
        found = self.proximal.improve(
            shaped,
            reference=reference if pull else None,
            pull=regularizer.strength if pull else 0.0,
            shared=False,
        )
        return found | metrics | {"rollout/reward": batch.reward.mean()}

    def averaged(self) -> Ppo:
        """A policy with the mean of the weights over the last `average_steps`."""
        return averaged(self.proximal)

    @torch.no_grad()
    def action_kl(self, obs: Tensor, reference: Tensor) -> Tensor:
        """Mean KL(pi | pi_0) at the states of a batch."""
        return self.proximal.head.kl(self.proximal.law(obs), reference.float()).mean()


def orpo(
    spec: ControlSpec,
    base: Transitions,
    regularizer: RegularizerConfig = SQRT_CHI2,
    config: PpoConfig = DEFAULT,
    *,
    seed: int = 0,
    seeds: int = 1,
    head: HeadKind = "auto",
    layers: Layers = TWO_OF_64,
    memory: Memory | None = None,
    input_scale: Sequence[float] | None = None,
    base_law: Law | None = None,
) -> Orpo:
    """ORPO with networks for a problem with this plain spec, against whole episodes `base` of the reference."""
    plain = ppo(spec, config, seed=seed, seeds=seeds, head=head, layers=layers, memory=memory, input_scale=input_scale)
    widths = (spec.observation_dim, spec.action_dim)
    if base.obs.shape[-1] < widths[0] or base.action.shape[-1] < widths[1]:
        raise ConfigError(
            f"the base must have {widths[0]} observations and {widths[1]} actions, got {base.obs.shape[-1]} and "
            f"{base.action.shape[-1]}; gather it in the same environment"
        )
    device = base.reward.device
    part = OccupancyRegularizer(base, widths, spec.horizon, regularizer, seeds=seeds, seed=seed + 1)
    return Orpo(plain.proximal.to(device), part.to(device), base_law)
