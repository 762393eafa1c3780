"""The episodes of a Minari data set as columns, each checked: every fault ends in one line that names the episode."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rlcore.errors import DataError
from rlcore.interop.flat_spaces import box_ends, flat, size

Array = NDArray[Any]
Columns = dict[str, Array]  # obs, next_obs [N, d], action [N, m], reward [N], terminated, last bool [N]
FIELDS = ("observations", "actions", "rewards", "terminations", "truncations")


def gather(name: str, dataset: Any, unflagged_is_truncated: bool) -> Columns:
    """All episodes, one after another."""
    size(dataset.observation_space, f"{name}: the observation space", DataError)
    parts: list[Columns] = []
    for number, episode in episodes(name, dataset):
        where = f"{name}, episode {number}"
        columns = rows(where, dataset, episode, unflagged_is_truncated)
        check_values(where, columns, dataset.action_space)
        parts.append(columns)
    if not parts:
        raise DataError(f"{name} holds no episode")
    return {field: np.concatenate([part[field] for part in parts]) for field in parts[0]}


def check_values(where: str, columns: Columns, actions: Any) -> None:
    """Raise unless all numbers are finite and all actions lie in their space."""
    for field, values in columns.items():
        bad = ~np.isfinite(values).reshape(len(values), -1).all(1)
        if bad.any():
            raise DataError(
                f"{where}: {field} must be finite, got NaN or infinity at step {int(bad.argmax())}; leave it out"
            )
    low, high = box_ends(actions, f"{where}: the action space", DataError)
    slack = 1e-6 * np.where(np.isfinite(high - low), high - low, 1.0)
    beyond = ((columns["action"] < low - slack) | (columns["action"] > high + slack)).any(1)
    if beyond.any():
        step = int(beyond.argmax())
        raise DataError(
            f"{where}: actions must lie in {actions}, got {columns['action'][step].tolist()} at step {step}; "
            "clip them, or declare the box that was used"
        )


def episodes(name: str, dataset: Any) -> Iterator[tuple[int, Any]]:
    """Each episode with its number; what Minari cannot read is told in one line."""
    found = iter(dataset.iterate_episodes())
    for number in dataset.episode_indices:
        try:
            yield int(number), next(found)
        except (KeyError, TypeError, OSError, ValueError, AssertionError, StopIteration) as error:
            raise DataError(
                f"{name}, episode {number} cannot be read ({error}); each needs {', '.join(FIELDS)}"
            ) from error


def rows(where: str, dataset: Any, episode: Any, unflagged_is_truncated: bool) -> Columns:
    """The steps of one episode."""
    reward = np.asarray(episode.rewards)
    steps = len(reward)
    obs = flat(dataset.observation_space, episode.observations)  # [T+1, d]
    action = flat(dataset.action_space, episode.actions)  # [T, m]
    terminated, truncated = (np.asarray(flag, dtype=bool) for flag in (episode.terminations, episode.truncations))
    found = (len(obs), len(action), steps, len(terminated), len(truncated))
    if steps == 0 or found != (steps + 1, steps, steps, steps, steps) or reward.ndim != 1:
        raise DataError(
            f"{where}: T steps need T + 1 observations and T of each other field, T > 0, got "
            + ", ".join(f"{count} {field}" for count, field in zip(found, FIELDS, strict=True))
        )
    ended = terminated | truncated
    if ended[:-1].any():
        raise DataError(f"{where} goes on after an end at step {int(ended.argmax())}; split it there")
    if not ended[-1] and not unflagged_is_truncated:
        raise DataError(
            f"{where} is cut without a flag: neither terminated nor truncated in its last step; set one, or pass "
            "unflagged_is_truncated=True"
        )
    last = np.arange(steps) == steps - 1
    return {
        "obs": obs[:-1], "next_obs": obs[1:], "action": action, "reward": reward, "terminated": terminated, "last": last
    }  # fmt: skip


def check_spaces(name: str, dataset: Any, env: gymnasium.Env[Any, Any]) -> None:
    """Raise unless a policy for the environment could have made the data set."""
    pairs = {
        "observation": (dataset.observation_space, env.observation_space),
        "action": (dataset.action_space, env.action_space),
    }
    for what, (theirs, ours) in pairs.items():
        wanted, got = (size(space, f"{name}: the {what} space", DataError) for space in (ours, theirs))
        if wanted != got:
            raise DataError(f"{name} has {got} numbers per {what} ({theirs}), the environment {wanted} ({ours})")
    given, needed = (np.stack(box_ends(space, f"{name}: the action space", DataError)) for space in pairs["action"])
    if not np.allclose(given, needed):
        raise DataError(
            f"{name} has actions in {dataset.action_space}, the environment in {env.action_space}; rescale one of them"
        )


def digest(columns: Columns) -> str:
    """SHA-256 of the arrays with their names, types and shapes."""
    found = hashlib.sha256()
    for name in sorted(columns):
        values = np.ascontiguousarray(columns[name])
        found.update(f"{name} {values.dtype.str} {values.shape}".encode())
        found.update(values.data)
    return found.hexdigest()
