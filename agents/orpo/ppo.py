"""Proximal policy optimisation on batched environments: discrete, Gaussian or Beta actions, with or without a memory.

A batch of several runs interleaves their paths: path b belongs to run b mod S. A policy with a memory acts in
`WithMemory(env, agent.memory_dim)`, which carries what it remembers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from rlcore.agents.orpo.proximal import Proximal
from rlcore.agents.orpo.settings import PpoConfig
from rlcore.data import Transitions
from rlcore.errors import ConfigError
from rlcore.nn.actor_critic import TWO_OF_64, ActorCritic, Memory
from rlcore.nn.ensemble import Layers
from rlcore.nn.heads import Beta, Categorical, DiagonalGaussian, Head
from rlcore.simulation.environment import ControlSpec
from rlcore.training.agent import Agent, Metrics

HeadKind = Literal["auto", "categorical", "gaussian", "beta"]
DEFAULT = PpoConfig()


class Ppo(Agent[Transitions]):
    """On-policy updates from consecutive rows [K, B] of a `RolloutSource`; make one with `ppo`."""

    def __init__(self, networks: ActorCritic, config: PpoConfig = DEFAULT, *, seed: int = 0) -> None:
        super().__init__()
        self.proximal = Proximal(networks, config, seed=seed)
        self.noise_dim, self.memory_dim = networks.head.noise_dim, networks.memory_dim

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.proximal.act(obs, noise)

    def update(self, batch: Transitions) -> Metrics:
        return self.proximal.improve(batch) | {"rollout/reward": batch.reward.mean()}

    def averaged(self) -> Ppo:
        """A copy that acts with the mean of the weights over the last `average_steps`."""
        return averaged(self.proximal)


def averaged(proximal: Proximal) -> Ppo:
    """A policy with the mean of the weights, of an agent that goes on learning with its own."""
    found = Ppo(proximal.averaged(), replace(proximal.config, compiled=False))
    return found.to(proximal.gathered.device)


def head_of(spec: ControlSpec, kind: HeadKind = "auto") -> Head:
    """The law of actions for a problem; auto is categorical where actions are choices, else Gaussian."""
    if spec.discrete != (kind == "categorical") and kind != "auto":
        takes = f"one of {spec.action_dim} choices" if spec.discrete else f"{spec.action_dim} numbers"
        raise ConfigError(f"{spec.name} takes {takes}, got head {kind!r}; use 'auto'")
    if spec.discrete:
        return Categorical(spec.action_dim)
    kinds: dict[str, type[Beta | DiagonalGaussian]] = {
        "auto": DiagonalGaussian,
        "gaussian": DiagonalGaussian,
        "beta": Beta,
    }
    if kind not in kinds:
        raise ConfigError(f"head must be auto, categorical, gaussian or beta, got {kind!r}")
    return kinds[kind](spec.action_dim, spec.action_low, spec.action_high)


def ppo(
    spec: ControlSpec,
    config: PpoConfig = DEFAULT,
    *,
    seed: int = 0,
    seeds: int = 1,
    head: HeadKind = "auto",
    layers: Layers = TWO_OF_64,
    memory: Memory | None = None,
    input_scale: Sequence[float] | None = None,
) -> Ppo:
    """PPO with networks for a problem, for `seeds` independent runs; `spec` is that of the plain environment."""
    generator = torch.Generator().manual_seed(seed)
    networks = ActorCritic(
        spec.observation_dim,
        head_of(spec, head),
        layers,
        memory,
        seeds=seeds,
        generator=generator,
        input_scale=input_scale,
    )
    return Ppo(networks, config, seed=seed)
