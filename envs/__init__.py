"""Environments. Importing this registers them with Gymnasium; each class is loaded when it is first used."""

from __future__ import annotations

from dataclasses import fields, replace
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium

from rlcore.envs.catalog import CATALOG, FOREIGN
from rlcore.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    import torch

    from rlcore.simulation import Environment

_HOME = {path.partition(":")[2]: path for entry in CATALOG.values() for path in (entry.environment, entry.config)}
_HOME |= {"random_lq": "rlcore.envs.control.matrix_lqr:random_lq", "register": "rlcore.envs.registration:register"}

__all__ = ["CATALOG", "FOREIGN", "make", *sorted(_HOME)]


def load(path: str) -> Any:
    """The object at "module:name"."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return load(_HOME[name])
    raise AttributeError(f"module 'rlcore.envs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


def default_config(env_id: str) -> Any:
    """The settings of a registered environment, as its frozen dataclass."""
    if env_id in FOREIGN:
        raise ConfigError(f"{env_id} is of another library and no tensor environment; use gymnasium.make({env_id!r})")
    if env_id not in CATALOG:
        raise unknown_name("environment", env_id, CATALOG)
    config = load(CATALOG[env_id].config)
    return config() if isinstance(config, type) else config


def make(
    env_id: str, *, dtype: torch.dtype | None = None, device: str | torch.device = "cpu", **overrides: Any
) -> Environment:
    """A registered environment with some settings replaced; float32, unless `dtype` says otherwise.

    >>> make("rlcore/ScalarLqr-v0", dt=0.005).spec.dt
    0.005
    """
    config = default_config(env_id)
    known = [field.name for field in fields(config)]
    for name in overrides:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise ConfigError(f"{env_id} has no setting {name!r}; {hint}")
    precision = {} if dtype is None else {"dtype": dtype}
    env: Environment = load(CATALOG[env_id].environment)(replace(config, **overrides), device=device, **precision)
    env.spec = replace(env.spec, name=env_id)
    return env


for _id in CATALOG:
    gymnasium.register(
        id=_id,
        entry_point="rlcore.envs.registration:make_gym",
        vector_entry_point="rlcore.envs.registration:make_gym_vector",
        kwargs={"env_id": _id},
    )

for _id, _foreign in FOREIGN.items():
    gymnasium.register(id=_id, entry_point=_foreign.factory, kwargs={"env_id": _id})
