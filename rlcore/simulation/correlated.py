"""Exploration noise with a correlation time in seconds, as part of a Markov state."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rlcore.checks import check_positive
from rlcore.simulation.environment import Environment, EnvState
from rlcore.simulation.policy import Policy


class WithCorrelatedNoise(Environment):
    """An environment that carries stationary Ornstein-Uhlenbeck noise z beside its state, and shows both.

        dz = -z / tau dt + sqrt(2 / tau) dW,   exactly:  z' = rho z + sqrt(1 - rho^2) noise,   rho = exp(-dt / tau)

    Each of the `width` components is N(0, 1) at every time, whatever dt. The dynamics do not see z.
    """

    def __init__(self, env: Environment, width: int, correlation_time: float) -> None:
        check_positive("correlation_time", correlation_time, "s")
        check_positive("width", width)
        spec = replace(
            env.spec,
            state_dim=env.spec.state_dim + width,
            observation_dim=env.spec.observation_dim + width,
            initial_noise_dim=env.spec.initial_noise_dim + width,
        )
        super().__init__(spec, dtype=env.dtype, device=env.device)
        self.env, self.width = env, width
        self.rho = math.exp(-env.spec.dt / correlation_time)

    @property
    def step_noise_dim(self) -> int:
        return self.env.step_noise_dim + self.width

    @property
    def terminates(self) -> bool:
        return self.env.terminates

    def inner(self, state: EnvState) -> EnvState:
        """The state of the environment alone."""
        return EnvState(state.t, state.x[:, : -self.width])

    def initial_state(self, noise: Tensor) -> EnvState:
        t, x = self.env.initial_state(noise[:, : -self.width])
        return EnvState(t, torch.cat([x, noise[:, -self.width :]], dim=1))

    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        (t, x), reward = self.env.transition(self.inner(state), action, noise[:, : -self.width])
        z = self.rho * state.x[:, -self.width :] + math.sqrt(1.0 - self.rho**2) * noise[:, -self.width :]
        return EnvState(t, torch.cat([x, z], dim=1)), reward

    def observe(self, state: EnvState) -> Tensor:
        return torch.cat([self.env.observe(self.inner(state)), state.x[:, -self.width :]], dim=1)

    def terminated(self, state: EnvState) -> Tensor:
        return self.env.terminated(self.inner(state))

    def terminal_reward(self, state: EnvState) -> Tensor:
        return self.env.terminal_reward(self.inner(state))


@dataclass(frozen=True)
class NoiseFromState:
    """A policy that takes its noise from the last components of what `WithCorrelatedNoise` shows."""

    policy: Policy
    noise_dim: int = 0

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        width = self.policy.noise_dim
        return self.policy.act(obs[:, :-width], noise=obs[:, -width:])
