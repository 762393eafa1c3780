"""The packages of the extra `robotics`."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from importlib import import_module

import gymnasium

from rlcore.errors import MissingExtraError


def require_robotics() -> None:
    """Register the environments of Gymnasium-Robotics, or raise one line that says what to install."""
    try:
        for needed in ("mujoco", "imageio"):  # Gymnasium imports both, the second even where nothing is drawn
            import_module(needed)
        with redirect_stderr(io.StringIO()):  # it talks about dense rewards, which nothing here uses
            gymnasium.register_envs(import_module("gymnasium_robotics"))
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        raise MissingExtraError(
            f"this needs MuJoCo and gymnasium-robotics, which cannot be imported ({error}); "
            "pip install 'rlcore-lab[robotics]'"
        ) from None
