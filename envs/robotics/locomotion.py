"""Gymnasium's HalfCheetah, Hopper and Walker2d (v5) at any control interval, in physical time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rlcore.checks import check_positive
from rlcore.errors import ConfigError, NumericsError, RlcoreError

Array = NDArray[np.floating[Any]]  # float64, as in Gymnasium


class MissingExtraError(RlcoreError, gymnasium.error.DependencyNotInstalled):
    """A package of an extra is not installed."""


@dataclass(frozen=True)
class Task:
    """One of Gymnasium's robots."""

    environment: str
    """Its class, "module:name"."""
    dt: float
    """Gymnasium's control interval [s]."""


_HOME = "gymnasium.envs.mujoco"
TASKS = {
    "rlcore/HalfCheetah-v0": Task(f"{_HOME}.half_cheetah_v5:HalfCheetahEnv", 0.05),
    "rlcore/Hopper-v0": Task(f"{_HOME}.hopper_v5:HopperEnv", 0.008),
    "rlcore/Walker2d-v0": Task(f"{_HOME}.walker2d_v5:Walker2dEnv", 0.008),
}


class LocomotionEnv(gymnasium.Env[Array, Array]):
    """A MuJoCo robot that runs, with rewards per second of its own time.

    Gymnasium pays v + h - c |a|^2 per step of its own length dt0: v [m/s] the mean forward velocity over the step, h a
    bonus for being upright, c |a|^2 the effort. Over an episode that is (1 / dt0) times the integral of

        r = w v + h - c |a|^2   per second,

    so each of the three terms is a rate already, and their balance is Gymnasium's only if all are treated alike. A step
    of any dt pays r dt, and a return here is dt0 times Gymnasium's: dt0 = 0.05 s for HalfCheetah, 0.008 s for the
    others. (Were h and c |a|^2 alone divided by dt0, one metre would be worth 125 times less to the hopper.)

    | robot       | observation | action | h | c     | ends when                                    |
    |-------------|-------------|--------|---|-------|----------------------------------------------|
    | HalfCheetah | [17]        | [6]    | 0 | 0.1   | never                                        |
    | Hopper      | [11]        | [3]    | 1 | 0.001 | z <= 0.7 m, or leans by 0.2 rad or more      |
    | Walker2d    | [17]        | [6]    | 1 | 0.001 | z is not in (0.8, 2) m, or leans by 1 rad    |

    Settings
    | name             | default                | what it is                                              |
    |------------------|------------------------|---------------------------------------------------------|
    | dt               | dt0                    | control interval [s]: an action is held for this long   |
    | horizon          | 10                     | length of an episode [s]; it truncates                  |
    | physics_timestep | 0.001                  | longest step of the simulator [s]                       |
    | others           | those of Gymnasium     | passed on, such as `ctrl_cost_weight`; not `frame_skip` |

    The simulator takes ceil(dt / physics_timestep) equal steps per control interval, so every dt that is a multiple of
    a millisecond runs the same physics, by the integrator of Gymnasium's model (Gymnasium itself takes 10 ms and 2 ms).
    Falls are seen at the end of a control interval. Actions beyond [-1, 1] act as the nearest one and cost in full.
    `info` has `t` and `dt` [s], `reward_rate` = r, and what Gymnasium puts there: its `reward_...` are rates too.

    Source: Gymnasium's v5 models; Tallec, Blier and Ollivier, "Making Deep Q-learning methods robust to time
    discretization", ICML 2019, for why dt matters.
    """

    def __init__(
        self,
        env_id: str,
        dt: float | None = None,
        horizon: float = 10.0,
        physics_timestep: float = 0.001,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        task = TASKS[env_id]
        self.dt = task.dt if dt is None else dt
        check_positive("dt", self.dt, "s")
        check_positive("physics_timestep", physics_timestep, "s")
        if not (isinstance(horizon, int | float) and horizon >= self.dt):
            raise ConfigError(f"need horizon >= dt, got horizon={horizon} s and dt={self.dt} s")
        if "frame_skip" in settings:
            raise ConfigError("frame_skip follows from dt and physics_timestep, got both; leave frame_skip out")
        self.robot = load_robot(env_id, task)(render_mode=render_mode, **settings)
        self.robot.frame_skip = math.ceil(self.dt / physics_timestep - 1e-9)
        self.robot.model.opt.timestep = self.dt / self.robot.frame_skip
        self.observation_space, self.action_space = self.robot.observation_space, self.robot.action_space
        self.render_mode, self.latest, self.steps = render_mode, horizon - 0.5 * self.dt, 0
        self.metadata = self.robot.metadata | {"render_fps": max(1, round(1.0 / self.dt))}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        obs, info = self.robot.reset(seed=seed, options=options)
        return obs, info | {"t": 0.0, "dt": self.dt}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        if not np.isfinite(action).all():  # MuJoCo would start anew in silence
            raise NumericsError(f"action must be finite, got {np.asarray(action).tolist()}")
        obs, rate, terminated, _, info = self.robot.step(action)
        self.steps += 1
        t, ended = self.steps * self.dt, bool(terminated)
        info |= {"t": t, "dt": self.dt, "reward_rate": float(rate)}
        return obs, float(rate) * self.dt, ended, t > self.latest and not ended, info

    def render(self) -> Any:
        return self.robot.render()

    def close(self) -> None:
        self.robot.close()


def load_robot(env_id: str, task: Task) -> Any:
    """Gymnasium's class, or one line that says what to install."""
    module, _, name = task.environment.partition(":")
    try:
        for needed in ("mujoco", "imageio"):  # Gymnasium imports both, the second even where nothing is drawn
            import_module(needed)
        return getattr(import_module(module), name)
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        raise MissingExtraError(
            f"{env_id} needs MuJoCo and imageio, which cannot be imported ({error}); pip install 'rlcore-lab[robotics]'"
        ) from None


def make_gym(env_id: str, render_mode: str | None = None, **settings: Any) -> LocomotionEnv:
    """Entry point of `gymnasium.make`; see `LocomotionEnv` for the settings."""
    return LocomotionEnv(env_id, render_mode=render_mode, **settings)
