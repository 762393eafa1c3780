"""Foreign Gymnasium vector environments as a source of transitions, whatever their autoreset mode."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import Env
from gymnasium.spaces import Box, Discrete, flatten
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from rlcore.checks import check_device, check_not_negative, check_positive
from rlcore.data import Transitions
from rlcore.errors import ConfigError, DataError
from rlcore.interop.flat_spaces import flat, size
from rlcore.seeding import derive_seed
from rlcore.simulation.noise import Stream, step_noise
from rlcore.simulation.policy import Policy
from rlcore.training.sources import Source


class GymSource(Source[Transitions]):
    """One-step rows [N, ...] from an environment, or a vector of them, with box spaces; no row joins two episodes.

    `next_obs` is the true next observation, the discount exp(-discount_rate dt) (1 - terminated), `extras["last"]`
    marks the last step of an episode and `extras["t"]` is the time since it began [s]. Where an action is one of m
    choices, policies give a score for each, of which the largest is taken. In NEXT_STEP the dead row after each end is
    dropped, so N varies; the other modes waste nothing. Actions go in as the policy gives them: wrap the environments
    in `ClipAction` where they ask for it. Observations in dictionaries and tuples of boxes are flattened as by
    `FlattenObservation`. The inside of a foreign environment cannot be saved: after a resume, its episodes begin anew.
    `true_reward` names an info key whose numbers become `extras["true_reward"]`; `interop.true_reward` wraps
    environments that have a function instead.
    """

    def __init__(
        self,
        envs: VectorEnv[Any, Any, Any] | Env[Any, Any],
        *,
        dt: float,
        discount_rate: float,
        seed: int,
        steps_per_call: int = 1,
        hold: int = 1,
        true_reward: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        if isinstance(envs, Env):
            single = envs
            envs = SyncVectorEnv([lambda: single], autoreset_mode=AutoresetMode.SAME_STEP)
        check_positive("dt", dt, "s")
        check_not_negative("discount_rate", discount_rate, "1/s")
        self.space, actions = envs.single_observation_space, envs.single_action_space
        size(self.space, "the observation space")
        if not isinstance(actions, Box | Discrete):
            raise ConfigError(f"the action space must be a Box or Discrete, got {actions}; use a wrapper")
        if min(steps_per_call, hold) < 1:
            raise ConfigError(f"steps_per_call and hold must be at least 1, got {steps_per_call} and {hold}")
        self.envs, self.dt, self.discount_rate, self.seed = envs, dt, discount_rate, seed
        self.steps_per_call, self.hold, self.dtype, self.device = steps_per_call, hold, dtype, check_device(device)
        self.mode = AutoresetMode(envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        self.row = torch.arange(envs.num_envs, device=self.device)
        self.calls, self.true_key = 0, true_reward
        self.reset()

    def reset(self) -> None:
        """Begin every episode anew, from a seed that belongs to the number of calls so far."""
        seed = self.seed if self.calls == 0 else derive_seed(self.seed, f"resume/{self.calls}") % 2**31
        self.obs = self.tensor(flat(self.space, self.envs.reset(seed=seed)[0]))
        self.over = np.zeros(self.envs.num_envs, dtype=bool)  # rows whose last step ended an episode
        self.age = torch.zeros(self.envs.num_envs, dtype=torch.float64, device=self.device)  # steps of their episodes

    def next(self, policy: Policy) -> Transitions:
        parts: list[Transitions] = []
        while len(parts) < self.steps_per_call:
            part = self.step(policy)
            if len(part):
                parts.append(part)
        batch = parts[0] if len(parts) == 1 else join(parts)
        self.count(len(batch), len(batch) * self.dt)
        return batch

    @torch.no_grad()
    def step(self, policy: Policy) -> Transitions:
        """One call of the environments -> its live rows."""
        if self.mode is AutoresetMode.DISABLED and self.over.any():
            self.obs = self.tensor(flat(self.space, self.envs.reset(options={"reset_mask": self.over.copy()})[0]))
            self.over[:] = False
        noise = None
        if policy.noise_dim:
            draw = self.calls // self.hold
            noise = step_noise(self.seed, self.row, Stream.ACTION, draw, 1, policy.noise_dim, self.dtype)[0]
        action = policy.act(self.obs, noise=noise)
        seen, reward, terminated, truncated, info = self.envs.step(self.given(action))
        after = flat(self.space, seen)
        keep = torch.from_numpy(~self.over).to(self.device)  # a row that was over is a reset now, not a transition
        true_next = np.array(after, copy=True)
        last = np.asarray(terminated) | np.asarray(truncated)
        if self.mode is AutoresetMode.SAME_STEP and last.any():
            check_final_obs(last, info)
            finals: list[Any] = [
                flatten(self.space, final) for final in info["final_obs"][last]
            ]  # objects, or rows of an array
            true_next[last] = np.stack(finals)
        alive = 1.0 - self.tensor(terminated)
        extras = {"last": torch.tensor(last, device=self.device), "t": self.dt * self.age}
        if self.true_key is not None:
            ended = info.get("final_info", {}) if self.mode is AutoresetMode.SAME_STEP and last.any() else {}
            found = np.zeros(len(last)) if self.over.all() else true_rewards(self.true_key, last, info, ended)
            extras["true_reward"] = self.tensor(found)  # rows that were over are no steps and are dropped below
        batch = Transitions(
            obs=self.obs,
            action=action,
            reward=self.tensor(reward),
            discount=math.exp(-self.discount_rate * self.dt) * alive,
            next_obs=self.tensor(true_next),
            dt=torch.full_like(alive, self.dt),
            extras=extras,
        )[keep]
        self.age = torch.where(extras["last"] | ~keep, 0.0, self.age + 1.0)
        self.over = np.zeros_like(last) if self.mode is AutoresetMode.SAME_STEP else last
        self.obs, self.calls = self.tensor(after), self.calls + 1
        return batch

    def given(self, action: Tensor) -> NDArray[Any]:  # [N, m] -> what the environments take
        """Actions in their shape and type; of scores, the number of the largest."""
        space = self.envs.single_action_space
        if isinstance(space, Discrete):
            chosen: NDArray[Any] = action.argmax(1).cpu().numpy().astype(space.dtype) + space.start
            return chosen
        found: NDArray[Any] = action.cpu().numpy().astype(space.dtype).reshape(-1, *(space.shape or ()))
        return found

    def tensor(self, value: Any) -> Tensor:
        """A copy: some vector environments use one array again and again."""
        return torch.tensor(np.asarray(value), dtype=self.dtype, device=self.device)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"calls": self.calls}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.calls = int(state["calls"])
        self.reset()


def check_final_obs(last: NDArray[np.bool_], info: Mapping[str, Any]) -> None:
    """Raise unless every row that ended brings its last observation, which a reset has replaced."""
    if "final_obs" not in info or not np.asarray(info.get("_final_obs", last))[last].all():
        raise ConfigError(
            "the environments declare autoreset in the same step, but their info lacks 'final_obs' for a row that "
            f"ended, got {sorted(info)}; use Gymnasium's vectors, or set metadata['autoreset_mode'] to what they do"
        )


def true_rewards(key: str, last: NDArray[np.bool_], info: Mapping[str, Any], ended: Mapping[str, Any]) -> NDArray[Any]:
    """The numbers [N] under an info key; where a reset in the same step has replaced them, those from before it."""
    if key not in info and key not in ended:
        raise DataError(
            f"the environments' info has no true reward under {key!r}, only {sorted(info)}; name another key, or wrap "
            "them in interop.true_reward.WithTrueReward"
        )
    found = np.array(info.get(key, np.zeros(len(last))), dtype=np.float64)
    if key in ended:
        found[last] = np.asarray(ended[key], dtype=np.float64)[last]
    return found


class GymPathSource(Source[Transitions]):
    """The rows of a `GymSource` as consecutive transitions [K, B]; the environments must restart in the same step."""

    def __init__(self, rows: GymSource) -> None:
        if rows.mode is not AutoresetMode.SAME_STEP:
            raise ConfigError(f"rows in a row need autoreset_mode SAME_STEP, got {rows.mode}: others leave gaps")
        self.rows = rows

    def next(self, policy: Policy) -> Transitions:
        batch = self.rows.next(policy)
        self.steps, self.simulated = self.rows.steps, self.rows.simulated
        paths = self.rows.envs.num_envs
        return batch.map(lambda x: x.reshape(-1, paths, *x.shape[1:]))

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"rows": self.rows.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.rows.load_state_dict(state["rows"])


def join(parts: list[Transitions]) -> Transitions:
    """Batches of rows, one after another."""
    fields = ("obs", "action", "reward", "discount", "next_obs", "dt")
    columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in fields}
    extras = {name: torch.cat([part.extras[name] for part in parts]) for name in parts[0].extras}
    return Transitions(**columns, extras=extras)
