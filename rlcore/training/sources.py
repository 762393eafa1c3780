"""Where an agent's batches come from. A source holds the environment and its place in time; the agent does not.

`mode` says how the rollouts are carried out (`rlcore.simulation.modes`); the numbers agree to rounding.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from rlcore.data import Trajectory, Transitions
from rlcore.data.batches import side_by_side
from rlcore.errors import ConfigError
from rlcore.parallel import world
from rlcore.simulation.correlated import NoiseFromState, WithCorrelatedNoise
from rlcore.simulation.environment import Environment, EnvState
from rlcore.simulation.noise import Stream, step_noise
from rlcore.simulation.policy import HeldNoise, Policy
from rlcore.simulation.rollout import Mode, begin, rollout, rollout_with_reset

Batch = TypeVar("Batch")


class Source(ABC, Generic[Batch]):
    """Anything that yields batches, given the policy of the moment, and counts the experience it gathered."""

    steps: int = 0
    """Environment steps gathered so far, over all paths."""
    simulated: float = 0.0
    """Physical time gathered so far [s], summed over paths."""

    @abstractmethod
    def next(self, policy: Policy) -> Batch:
        """The next batch."""

    def count(self, steps: int, seconds: float) -> None:
        self.steps += steps
        self.simulated += seconds

    def state_dict(self) -> dict[str, Any]:
        """Everything that the following batches depend on, in plain types and tensors."""
        return {"steps": self.steps, "simulated": self.simulated}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps, self.simulated = int(state["steps"]), float(state["simulated"])

    def load_shares(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Take this process's share of what another number of processes saved, in their order.

        A source that is the same in every process has nothing to override here.
        """
        self.load_state_dict(states[0])


class PathSource(Source[Trajectory]):
    """Fresh whole paths at every call, from the initial law over `path_steps` control steps: episodic learning.

    Several processes share the paths.
    """

    def __init__(self, env: Environment, paths: int, path_steps: int, *, seed: int, mode: Mode = "eager") -> None:
        self.env, self.paths, self.path_steps, self.seed, self.mode = env, paths, path_steps, seed, mode

    def next(self, policy: Policy) -> Trajectory:
        first_row = self.steps // self.path_steps  # every path is a row of its own, so the noise never repeats
        own = world().share(self.paths, "the paths of a source")
        start = begin(self.env, own, seed=self.seed, first_row=first_row + world().rank * own)
        self.count(self.paths * self.path_steps, self.paths * self.path_steps * self.env.spec.dt)
        return rollout(self.env, policy, start, self.path_steps, mode=self.mode)[0]


class _Continuing(Source[Batch]):
    """What the sources that go on from call to call have in common: where their paths stand.

    Several processes share the paths: rank r of W has rows r B / W to (r + 1) B / W - 1, whose noise is theirs wherever
    they are run.
    """

    def __init__(self, env: Environment, paths: int, steps_per_call: int, *, seed: int, mode: Mode = "eager") -> None:
        self.env, self.steps_per_call, self.mode = env, steps_per_call, mode
        self.paths, own = paths, world().share(paths, "the paths of a source")
        self.stand = begin(env, own, seed=seed, first_row=world().rank * own)

    def count_call(self) -> None:
        steps = self.paths * self.steps_per_call
        self.count(steps, steps * self.env.spec.dt)

    def state_dict(self) -> dict[str, Any]:
        place = {"t": self.stand.env.t, "x": self.stand.env.x, "step": self.stand.step, "seed": self.stand.seed}
        return super().state_dict() | place

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        env_state = EnvState(state["t"].to(self.env.device), state["x"].to(self.env.device))
        self.stand = self.stand._replace(env=env_state, step=int(state["step"]), seed=int(state["seed"]))

    def load_shares(self, states: Sequence[Mapping[str, Any]]) -> None:
        rows = {name: world().own(torch.cat([state[name] for state in states]), 0) for name in ("t", "x")}
        self.load_state_dict({**states[0], **rows})


class StepSource(_Continuing[Trajectory]):
    """The next steps of paths that go on for ever: online learning, ergodic or discounted."""

    def next(self, policy: Policy) -> Trajectory:
        trajectory, self.stand = rollout(self.env, policy, self.stand, self.steps_per_call, mode=self.mode)
        self.count_call()
        return trajectory


class RolloutSource(_Continuing[Transitions]):
    """The next steps of paths that restart when they finish, as transitions [K, B, ...]."""

    def next(self, policy: Policy) -> Transitions:
        transitions, self.stand = rollout_with_reset(self.env, policy, self.stand, self.steps_per_call, mode=self.mode)
        self.count_call()
        return transitions


class CorrelatedSource(_Continuing[Transitions]):
    """As `RolloutSource`, but each component of the policy's noise is N(0, 1) with this correlation time [s].

    Noise drawn anew at every control step averages out over any fixed time as dt -> 0; this does not.
    """

    def __init__(
        self,
        env: Environment,
        paths: int,
        steps_per_call: int,
        *,
        seed: int,
        noise_dim: int,
        correlation_time: float,
        mode: Mode = "eager",
    ) -> None:
        noisy = WithCorrelatedNoise(env, noise_dim, correlation_time)
        super().__init__(noisy, paths, steps_per_call, seed=seed, mode=mode)
        self.width = noise_dim

    def next(self, policy: Policy) -> Transitions:
        check_noise(policy, self.width)
        loud = NoiseFromState(policy)
        found, self.stand = rollout_with_reset(self.env, loud, self.stand, self.steps_per_call, mode=self.mode)
        self.count_call()
        return found.replace(obs=found.obs[..., : -self.width], next_obs=found.next_obs[..., : -self.width])


class HeldSource(_Continuing[Transitions]):
    """As `RolloutSource`, but the policy's noise is drawn anew only every `hold` control steps and held in between.

    The policy still answers the newest observation at every step. Held noise has the same effect however small dt is,
    and at the beginning of a hold it is independent of the state. Path b takes `shares[b % len(shares)]` of the noise:
    0 acts as the deterministic policy does, which off-policy learners need to see too. With `spread`, the first
    episodes end after all times from 0 to the horizon, so that a batch shows every phase of an episode; without it all
    paths are in the same phase, and a learner on policy sees one part of the states at a time.
    """

    def __init__(
        self,
        env: Environment,
        paths: int,
        steps_per_call: int,
        *,
        seed: int,
        hold: int,
        shares: Sequence[float] = (1.0,),
        spread: bool = False,
        mode: Mode = "eager",
    ) -> None:
        if hold < 1 or not shares:
            raise ConfigError(f"need hold >= 1 step and at least one share, got {hold} and {list(shares)}")
        super().__init__(env, paths, steps_per_call, seed=seed, mode=mode)
        self.hold = hold
        if spread and math.isfinite(env.spec.horizon):
            phase = self.stand.row * round(env.spec.horizon / env.spec.dt) // paths  # [B] steps
            state = self.stand.env
            self.stand = self.stand._replace(env=state._replace(t=phase.to(state.t.dtype) * env.spec.dt))
        self.share = torch.tensor(list(shares), dtype=env.dtype, device=env.device)[self.stand.row % len(shares)]

    def next(self, policy: Policy) -> Transitions:
        pieces, left = [], self.steps_per_call
        while left:
            count = min(left, self.hold - self.stand.step % self.hold)  # up to the next draw
            held = HeldNoise(policy, self.noise(policy.noise_dim)) if policy.noise_dim else policy
            piece, self.stand = rollout_with_reset(self.env, held, self.stand, count, mode=self.mode)
            pieces.append(piece)
            left -= count
        self.count_call()
        return consecutive(pieces)

    def noise(self, width: int) -> Tensor:  # [B, width]
        row, draw = self.stand.row, self.stand.step // self.hold
        drawn = step_noise(self.stand.seed, row, Stream.ACTION, draw, 1, width, self.env.dtype)[0]
        return self.share.unsqueeze(1) * drawn


def consecutive(pieces: Sequence[Transitions]) -> Transitions:  # each [K, B] -> [sum K, B]
    """Batches of the same paths, one after the other."""
    return side_by_side(pieces, 0)


def check_noise(policy: Policy, width: int) -> None:
    """Raise unless the policy consumes as many numbers as there are."""
    if policy.noise_dim != width:
        raise ConfigError(f"noise_dim must be the policy's, {policy.noise_dim}, got {width}")


class BehaviourSource(Source[Batch]):
    """Batches of another source in which a fixed policy acts, whoever learns: off-policy data."""

    def __init__(self, source: Source[Batch], behaviour: Policy) -> None:
        self.source, self.behaviour = source, behaviour

    def next(self, policy: Policy) -> Batch:
        batch = self.source.next(self.behaviour)
        self.steps, self.simulated = self.source.steps, self.source.simulated
        return batch

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"source": self.source.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.source.load_state_dict(state["source"])

    def load_shares(self, states: Sequence[Mapping[str, Any]]) -> None:
        super().load_state_dict(states[0])
        self.source.load_shares([state["source"] for state in states])
