"""Transitions as a Minari data set that others can read.

Beside Minari's own metadata stands an entry "rlcore": the recipe, the seed, the versions it was made with, dt, and a
SHA-256 of the arrays, which `read_minari` checks.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from rlcore.data import Transitions
from rlcore.data.episodes import lengths
from rlcore.errors import ConfigError, DataError, FolderError
from rlcore.interop.minari import load_minari, open_minari
from rlcore.interop.minari_episodes import Columns, check_values, digest
from rlcore.training.files import plain, versions


@dataclass(frozen=True)
class About:
    """Where a data set comes from."""

    dt: float
    """Time between two rows [s]."""
    seed: int
    """The seed that makes it again."""
    algorithm: str = ""
    """What acted."""
    description: str = ""
    """What it is, in a sentence."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Every setting that it depends on."""
    reference: tuple[float, float] | None = None
    """Returns of a random and of an expert policy, which normalise scores."""


def write_minari(
    batch: Transitions,
    dataset_id: str,
    about: About,
    *,
    env: gymnasium.Env[Any, Any],
    eval_env: gymnasium.Env[Any, Any] | None = None,
    root: str | os.PathLike[str] | None = None,
) -> Path:
    """Rows in order [N] -> the folder of a Minari set under `root`, by default Minari's own. Whole or not at all.

    A set that is there already, bit for bit the same, is left as it is.
    """
    minari = load_minari()
    check_fits(dataset_id, batch, env)
    length = lengths(batch)
    try:
        minari.dataset.minari_dataset.parse_dataset_id(dataset_id)
    except ValueError as error:
        raise ConfigError(f"an id is [folder/]name-vN, such as maze/umaze-v0, got {dataset_id!r}") from error
    columns = {name: getattr(batch, name).cpu().numpy() for name in ("obs", "action", "reward", "next_obs")}
    columns |= {"last": batch.extras["last"].cpu().numpy(), "terminated": (batch.discount == 0.0).cpu().numpy()}
    folder = (minari.storage.get_dataset_path(dataset_id) if root is None else Path(root) / dataset_id).absolute()
    check_values(dataset_id, columns, env.action_space)
    sha256 = digest(columns)
    if folder.exists():
        with suppress(DataError):
            if open_minari(folder).storage.metadata.get("rlcore", {}).get("sha256") == sha256:
                return folder
        raise FolderError(f"{folder} exists and holds something else; choose another version, or remove it")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        storage = minari.dataset.minari_storage.MinariStorage.new(
            partial / "data",
            observation_space=env.observation_space,
            action_space=env.action_space,
            env_spec=env.spec,
            jpeg_encoding=False,
        )
        storage.update_metadata(metadata(dataset_id, about, eval_env, sha256))
        storage.update_episodes(buffers(columns, length, minari.data_collector.EpisodeBuffer))
        partial.replace(folder)
    except (OSError, RuntimeError) as error:
        raise FolderError(f"cannot write {folder}: {error}; free some space or choose another root") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def check_root(root: str | os.PathLike[str] | None = None) -> None:
    """Raise unless sets can be written there; to be called before long work."""
    minari = load_minari()
    folder = (minari.storage.get_dataset_path() if root is None else Path(root)).absolute()
    ancestor = next(p for p in (folder, *folder.parents) if p.exists())
    if not ancestor.is_dir() or not os.access(ancestor, os.W_OK | os.X_OK):
        raise FolderError(f"cannot write to {folder}: {ancestor} is not a writable folder; choose another root")


def size_label(rows: int) -> str:
    """How the number of rows stands in an id: 640, 20k, 1000k."""
    return f"{rows // 1000}k" if rows >= 1000 else str(rows)


def check_fits(dataset_id: str, batch: Transitions, env: gymnasium.Env[Any, Any]) -> None:
    """Raise unless the rows have the spaces of this environment."""
    spaces = {"obs": env.observation_space, "next_obs": env.observation_space, "action": env.action_space}
    for what, space in spaces.items():
        if not isinstance(space, Box) or len(space.shape) != 1:
            raise DataError(f"{dataset_id}: {what} must be of a flat Box, got {space}; use FlattenObservation")
        shape = list(getattr(batch, what).shape)
        if shape[1:] != list(space.shape):
            raise DataError(f"{dataset_id}: {what} must be [N, {space.shape[0]}] as in {space}, got {shape}")


def metadata(dataset_id: str, about: About, eval_env: gymnasium.Env[Any, Any] | None, sha256: str) -> dict[str, Any]:
    """What Minari stores beside the arrays."""
    made_with = versions()
    for package in ("minari", "mujoco", "gymnasium-robotics"):
        with suppress(PackageNotFoundError):
            made_with[package] = version(package)
    ours = {"dt": about.dt, "seed": about.seed, "recipe": about.recipe, "versions": made_with, "sha256": sha256}
    found: dict[str, Any] = {
        "dataset_id": dataset_id,
        "minari_version": made_with["minari"],
        "algorithm_name": about.algorithm,
        "description": about.description,
        "author": {"rlcore"},
        "requirements": ["rlcore-lab"],
        "rlcore": plain(ours),
    }
    if eval_env is not None and eval_env.spec is not None:
        found["eval_env_spec"] = eval_env.spec.to_json()
    if about.reference is not None:
        found["ref_min_score"], found["ref_max_score"] = about.reference
    return found


def buffers(columns: Columns, length: list[int], buffer: Any) -> Iterator[Any]:
    """One `EpisodeBuffer` per episode."""
    start = 0
    for steps in length:
        rows = slice(start, start + steps)
        ended, last = columns["terminated"][rows], columns["last"][rows]
        yield buffer(
            observations=np.concatenate([columns["obs"][rows], columns["next_obs"][rows][-1:]]),  # [T+1, d]
            actions=columns["action"][rows],
            rewards=columns["reward"][rows],
            terminations=ended,
            truncations=last & ~ended,
        )
        start += steps
