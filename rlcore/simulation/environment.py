"""Environments as pure functions over batched tensors.

Nothing is stored between calls and randomness comes in as data, so a rollout can be repeated bit for bit, compiled, or
captured in one CUDA graph. Letters: B parallel paths, n state, m action, w noise, d observation; time in seconds.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from rlcore.checks import check_device, check_integer, check_not_negative, check_positive, check_real, check_shape
from rlcore.errors import ConfigError, ShapeError


@dataclass(frozen=True)
class ControlSpec:
    """Sizes, times and bounds of a control problem."""

    name: str
    state_dim: int
    action_dim: int
    noise_dim: int
    """Components w of the driving noise; 0 for an ordinary differential equation."""
    dt: float
    """Control interval [s]: an action is held for this long."""
    horizon: float = math.inf
    """Length of an episode [s]. Reaching it truncates; it never terminates."""
    discount_rate: float = 0.0
    """beta [1/s]; a step is discounted by exp(-beta dt)."""
    action_low: float = -1.0
    """Lower end of the action box that is declared to Gymnasium; the dynamics decide what lies beyond it."""
    action_high: float = 1.0
    observation_dim: int = 0
    """d; 0 means that the state itself is observed."""
    initial_noise_dim: int = 0
    """Standard normals that `initial_state` consumes; 0 means state_dim of them."""
    discrete: bool = False
    """Whether an action is a score for each of m choices, of which the largest is taken. Gymnasium sees Discrete(m)."""

    def __post_init__(self) -> None:
        check_positive("dt", self.dt, "s")
        check_not_negative("discount_rate", self.discount_rate, "1/s")
        check_real("horizon", self.horizon)
        check_integer("state_dim, action_dim, noise_dim", self.state_dim, self.action_dim, self.noise_dim)
        check_real("action_low, action_high", self.action_low, self.action_high)
        if not self.horizon >= self.dt:
            raise ConfigError(f"need horizon >= dt, got horizon={self.horizon} s and dt={self.dt} s")
        if min(self.state_dim, self.action_dim) < 1 or self.noise_dim < 0:
            raise ConfigError(
                "need state_dim, action_dim >= 1 and noise_dim >= 0, "
                f"got {self.state_dim}, {self.action_dim}, {self.noise_dim}"
            )
        if not -math.inf < self.action_low < self.action_high < math.inf:
            raise ConfigError(f"need finite action_low < action_high, got {self.action_low} and {self.action_high}")
        object.__setattr__(self, "observation_dim", self.observation_dim or self.state_dim)
        object.__setattr__(self, "initial_noise_dim", self.initial_noise_dim or self.state_dim)


class EnvState(NamedTuple):
    """Where a batch of paths stands."""

    t: Tensor  # [B] s since the episode began; float64 always: float32 seconds lose a 1 ms step after some hours
    x: Tensor  # [B, n]


class Environment(ABC):
    """A controlled process with rewards, stepped at a fixed control interval.

    To write one: set `spec`, and write `initial_state` and `transition`; `observe`, `terminated` and `terminal_reward`
    have defaults. For a diffusion, subclass `ControlledDiffusion` and write its three coefficients instead.
    """

    def __init__(
        self, spec: ControlSpec, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
    ) -> None:
        if dtype not in (torch.float32, torch.float64):
            raise ConfigError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
        self.spec = spec
        self.dtype = dtype
        self.device = check_device(device)

    @property
    def step_noise_dim(self) -> int:
        """Standard normals that one `transition` consumes per path."""
        return self.spec.noise_dim

    @property
    def terminates(self) -> bool:
        """Whether this kind of process can end by its own nature; the rollout saves its bookkeeping where it cannot."""
        return type(self).terminated is not Environment.terminated

    @property
    def has_true_reward(self) -> bool:
        """Whether what `transition` pays is a proxy, and `true_reward` says what was wanted."""
        return type(self).true_reward is not Environment.true_reward

    @abstractmethod
    def initial_state(self, noise: Tensor) -> EnvState:  # [B, r] standard normals
        """A state at the beginning of an episode, for each row of noise."""

    @abstractmethod
    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        """One control interval: action [B, m], noise [B, step_noise_dim] -> state after it, reward earned in it [B]."""

    def observe(self, state: EnvState) -> Tensor:  # -> [B, d]
        """What a policy sees; the state, unless overridden."""
        return state.x

    def terminated(self, state: EnvState) -> Tensor:  # -> bool [B]
        """Whether the process has ended by its own nature. Never the time limit: that truncates, outside."""
        return torch.zeros_like(state.t, dtype=torch.bool)

    def terminal_reward(self, state: EnvState) -> Tensor:  # -> [B]
        """Reward paid once on arrival in a terminated state."""
        return torch.zeros_like(state.x[:, 0])

    def true_reward(self, state: EnvState, action: Tensor, after: EnvState) -> Tensor:  # -> [B]
        """What a step really was worth, a terminal reward included: to be watched, never to be trained on."""
        raise ConfigError(f"{self.spec.name} has no true reward beside the one it pays; write its `true_reward`")


@runtime_checkable
class Renderable(Protocol):
    """An environment that can be drawn."""

    def render(self, state: EnvState) -> np.ndarray[Any, np.dtype[np.uint8]]: ...  # row 0 -> [H, W, 3]


class Dynamics(Protocol):
    """What an integrator needs to know of a problem."""

    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor: ...

    def diffuse(self, t: Tensor, x: Tensor, u: Tensor, z: Tensor) -> Tensor: ...

    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor: ...


class Integrator(ABC):
    """A rule that carries a controlled diffusion over one control interval, with the action held."""

    def noise_dim(self, process_noise_dim: int) -> int:
        """Standard normals per path and control interval, given the components of the driving noise."""
        return process_noise_dim

    @abstractmethod
    def step(
        self, problem: Dynamics, t: Tensor, x: Tensor, u: Tensor, dt: float, noise: Tensor
    ) -> tuple[Tensor, Tensor]:  # [B], [B, n], [B, m], s, [B, noise_dim] -> [B, n], [B]
        """State after dt and the reward rate integrated over dt."""


class ControlledDiffusion(Environment):
    """dX = b(t, X, u) dt + sigma(t, X, u) dW with a reward rate r(t, X, u), carried by an `Integrator`.

    `t` reaches the coefficients in the dtype of x.
    """

    def __init__(
        self,
        spec: ControlSpec,
        integrator: Integrator,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__(spec, dtype=dtype, device=device)
        self.integrator = integrator
        # adds in half the time of a number; one element, since the compiler starts anew over a float64 scalar
        self._dt = torch.tensor([spec.dt], dtype=torch.float64, device=self.device)

    @property
    def step_noise_dim(self) -> int:
        return self.integrator.noise_dim(self.spec.noise_dim)

    @abstractmethod
    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # [B], [B, n], [B, m] -> [B, n]
        """b(t, x, u), per second."""

    def diffusion(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # -> [B, n, w]
        """sigma(t, x, u), per square root of a second; none, unless overridden."""
        return x.new_zeros(*x.shape, 0)

    def diffuse(self, t: Tensor, x: Tensor, u: Tensor, z: Tensor) -> Tensor:  # z [B, w] -> [B, n]
        """sigma(t, x, u) z, what the integrators ask for. Write it as well where the product needs no [B, n, w]."""
        sigma = self.diffusion(t, x, u)
        if z.shape[-1] == 1:
            return sigma.squeeze(-1) * z
        return (sigma * z.unsqueeze(-2)).sum(-1)  # so small a matrix product is slower

    @abstractmethod
    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # -> [B]
        """r(t, x, u), per second."""

    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        t, x = state
        after, reward = self.integrator.step(self, t.to(x.dtype), x, action, self.spec.dt, noise)
        return EnvState(t + self._dt, after), reward


def check_environment(env: Environment) -> None:
    """Evaluate every function of an environment once and compare the shapes with its `spec`.

    Raises `ShapeError` with the function's name, what was expected and what came.
    """
    spec, batch = env.spec, 3

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=env.dtype, device=env.device)

    def check(what: str, value: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        check_shape(f"{type(env).__name__}.{what}", value, shape)
        if value.dtype != dtype:
            raise ShapeError(f"{type(env).__name__}.{what} must be {dtype}, got {value.dtype}; convert it there")

    def check_state(what: str, state: EnvState) -> None:
        check(f"{what}.t", state.t, (batch,), torch.float64)
        check(f"{what}.x", state.x, (batch, spec.state_dim), env.dtype)

    state = env.initial_state(zeros(batch, spec.initial_noise_dim))
    check_state("initial_state", state)
    action = zeros(batch, spec.action_dim)
    if isinstance(env, ControlledDiffusion):
        t, x = state.t.to(env.dtype), state.x
        check("drift", env.drift(t, x, action), (batch, spec.state_dim), env.dtype)
        check("diffusion", env.diffusion(t, x, action), (batch, spec.state_dim, spec.noise_dim), env.dtype)
        if type(env).diffuse is not ControlledDiffusion.diffuse:
            check_diffuse(env)
        check("reward_rate", env.reward_rate(t, x, action), (batch,), env.dtype)
    after, reward = env.transition(state, action, zeros(batch, env.step_noise_dim))
    check_state("transition", after)
    check("transition reward", reward, (batch,), env.dtype)
    check("observe", env.observe(state), (batch, spec.observation_dim), env.dtype)
    check("terminated", env.terminated(state), (batch,), torch.bool)
    check("terminal_reward", env.terminal_reward(state), (batch,), env.dtype)
    if env.has_true_reward:
        check("true_reward", env.true_reward(state, action, after), (batch,), env.dtype)


def check_diffuse(env: ControlledDiffusion) -> None:
    """Raise unless an environment's own sigma z agrees with its matrix, at three states and actions."""
    spec = env.spec

    def ramp(width: int) -> Tensor:
        return torch.linspace(-1.0, 1.0, 3 * width, dtype=env.dtype, device=env.device).view(3, width)

    t, x = env.initial_state(ramp(spec.initial_noise_dim))
    action, z = spec.action_high * ramp(spec.action_dim), ramp(spec.noise_dim)
    got = env.diffuse(t.to(x.dtype), x, action, z)
    expected = ControlledDiffusion.diffuse(env, t.to(x.dtype), x, action, z)
    check_shape(f"{type(env).__name__}.diffuse", got, tuple(expected.shape))
    if not torch.allclose(got, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())):
        raise ConfigError(f"{type(env).__name__}.diffuse must be diffusion(t, x, u) z, and is not; correct one of them")
