"""Policies with a memory in an environment without one: the memory becomes a part of the state.

The policy observes [obs, memory] and acts [action, next memory]; the environment carries the memory and clears it at
the start of an episode. So rollouts, resets, replays and resumes need to know nothing of recurrent networks, and each
row of a batch holds the memory that the policy really had.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rlcore.checks import check_integer
from rlcore.errors import ConfigError
from rlcore.simulation.environment import Environment, EnvState


class WithMemory(Environment):
    """An environment whose state also holds `width` numbers that the policy writes, zeros at first."""

    def __init__(self, env: Environment, width: int) -> None:
        check_integer("width", width)
        if width < 1:
            raise ConfigError(f"a memory needs at least 1 number, got width={width}")
        self.env, self.width = env, width
        spec = replace(
            env.spec,
            state_dim=env.spec.state_dim + width,
            action_dim=env.spec.action_dim + width,
            observation_dim=env.spec.observation_dim + width,
            discrete=False,
        )
        super().__init__(spec, dtype=env.dtype, device=env.device)

    @property
    def step_noise_dim(self) -> int:
        return self.env.step_noise_dim

    @property
    def terminates(self) -> bool:
        return self.env.terminates

    def initial_state(self, noise: Tensor) -> EnvState:
        state = self.env.initial_state(noise)
        return EnvState(state.t, torch.cat([state.x, state.x.new_zeros(len(state.x), self.width)], 1))

    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        after, reward = self.env.transition(self.inner(state), action[:, : -self.width], noise)
        return EnvState(after.t, torch.cat([after.x, action[:, -self.width :]], 1)), reward

    def observe(self, state: EnvState) -> Tensor:
        return torch.cat([self.env.observe(self.inner(state)), state.x[:, -self.width :]], 1)

    def terminated(self, state: EnvState) -> Tensor:
        return self.env.terminated(self.inner(state))

    def terminal_reward(self, state: EnvState) -> Tensor:
        return self.env.terminal_reward(self.inner(state))

    @property
    def has_true_reward(self) -> bool:
        return self.env.has_true_reward

    def true_reward(self, state: EnvState, action: Tensor, after: EnvState) -> Tensor:
        return self.env.true_reward(self.inner(state), action[:, : -self.width], self.inner(after))

    def inner(self, state: EnvState) -> EnvState:
        """The state of the environment itself."""
        return EnvState(state.t, state.x[:, : -self.width])
