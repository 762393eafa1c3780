"""Any Minari data set on this machine as transitions."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from rlcore.checks import check_not_negative, check_positive
from rlcore.data import Transitions
from rlcore.errors import DataError, MissingExtraError, unknown_name
from rlcore.interop.flat_spaces import box_ends
from rlcore.interop.minari_episodes import check_spaces, digest, gather


def read_minari(
    dataset: str | os.PathLike[str] | Any,
    *,
    discount_rate: float,
    dt: float | None = None,
    env: gymnasium.Env[Any, Any] | None = None,
    unit_actions: bool = False,
    unflagged_is_truncated: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Transitions:
    """A local Minari set -> rows in order [N], with the true next observations.

    `dataset` is an id under Minari's root, a folder, or a `MinariDataset`. discount = exp(-discount_rate dt) where a
    step does not terminate; a truncation keeps it. `dt` [s] may be left out for sets that say it. Dictionary
    observations are flattened as by Gymnasium's `FlattenObservation`. With `env`, its spaces must fit. `unit_actions`
    maps the action box onto [-1, 1]. `unflagged_is_truncated` accepts episodes that stop without a flag.
    """
    check_not_negative("discount_rate", discount_rate, "1/s")
    opened = open_minari(dataset)
    name = opened.spec.dataset_id
    if env is not None:
        check_spaces(name, opened, env)
    about = opened.storage.metadata.get("rlcore", {})
    step = about.get("dt") if dt is None else dt
    if step is None:
        raise DataError(f"{name} does not say how long a step is; pass dt, such as dt=0.05 [s], or 1 for discrete time")
    check_positive("dt", step, "s")
    columns = gather(name, opened, unflagged_is_truncated)
    whole = len(opened.episode_indices) == opened.storage.total_episodes
    if whole and "sha256" in about and digest(columns) != about["sha256"]:
        raise DataError(f"{name} is not what was written: its arrays have another SHA-256; make it again")
    action = columns["action"]
    if unit_actions:
        low, high = box_ends(opened.action_space, f"{name}: the action space", DataError)
        if not np.isfinite(high - low).all():
            raise DataError(f"{name}: only a bounded action space has a unit box, got {opened.action_space}")
        action = 2.0 * (action - low) / (high - low) - 1.0
    alive = torch.from_numpy(~columns["terminated"]).to(dtype)
    return Transitions(
        obs=torch.from_numpy(columns["obs"]).to(dtype),
        action=torch.from_numpy(action).to(dtype),
        reward=torch.from_numpy(columns["reward"]).to(dtype),
        discount=math.exp(-discount_rate * step) * alive,
        next_obs=torch.from_numpy(columns["next_obs"]).to(dtype),
        dt=torch.full_like(alive, step),
        extras={"last": torch.from_numpy(columns["last"])},
    )


def open_minari(dataset: str | os.PathLike[str] | Any) -> Any:
    """The `MinariDataset` of this name, folder or object."""
    minari = load_minari()
    if isinstance(dataset, minari.MinariDataset):
        return dataset
    place = Path(dataset)
    inside = [p for p in (place, place / "data") if (p / "metadata.json").is_file()]
    if not inside:
        inside = [minari.storage.get_dataset_path(str(dataset)) / "data"]
        if not inside[0].is_dir():
            raise unknown_name("Minari data set on this machine", str(dataset), minari.list_local_datasets())
    try:
        return minari.MinariDataset(inside[0])
    except (OSError, KeyError, ValueError, AssertionError, ImportError, gymnasium.error.Error) as error:
        raise DataError(
            f"{inside[0]} cannot be opened: {type(error).__name__}: {error}; make or copy it again"
        ) from error


def load_minari() -> Any:
    """The package, or one line that says what to install."""
    try:
        import h5py  # noqa: F401
        import minari
        import minari.storage.datasets_root_dir
    except ImportError as error:
        raise MissingExtraError(
            f"data sets need minari and h5py, which cannot be imported ({error}); pip install 'rlcore-lab[robotics]'"
        ) from None
    return minari
