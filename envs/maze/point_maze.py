"""A ball to be pushed through a maze to a goal: Gymnasium-Robotics' PointMaze as one batch of tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlcore.checks import check_not_negative, check_positive
from rlcore.envs.maze import ball
from rlcore.envs.maze.drawing import draw_maze
from rlcore.envs.maze.layout import layout
from rlcore.errors import ConfigError
from rlcore.simulation.environment import ControlSpec, Environment, EnvState

GOAL_RADIUS = 0.45  # [m]: at most so far from the goal is at the goal
START_APART = 0.5  # [m]: no episode starts as near to its goal as this
HORIZONS = (("large", 8.0), ("medium", 6.0))  # [s], by how the name of a maze begins; 3 s for all others

Pay = Literal["sparse", "dense"]
AtGoal = Literal["end", "move", "stay"]


@dataclass(frozen=True)
class PointMazeConfig:
    """The task of `PointMaze`."""

    maze: str = "umaze"
    """A name in `LAYOUTS`, such as umaze, medium, large or large_far, or a drawing: rows of '#.RGC' joined by '/'."""
    reward: Pay = "sparse"
    """sparse: 1 on arrival; dense: exp(-distance / 1 m) per second."""
    at_goal: AtGoal = "end"
    """On arrival the episode ends, or the goal moves, or it stays and pays 1 per second while the ball is there."""
    spread: float = 0.25
    """Starts and goals are uniform within this distance of the centre of a cell, in x and in y [m]; at most 0.4."""
    dt: float = 0.01
    """Control interval [s], a multiple of the simulator's 0.01 s."""
    horizon: float = 0.0
    """Length of an episode [s]; 0 gives Gymnasium's: 8 s in a large maze, 6 s in a medium one, 3 s in any other."""
    discount_rate: float = 1.005
    """beta [1/s]; the default is a factor of 0.99 per 0.01 s."""


class PointMaze(Environment):
    """Push a ball with forces in x and y, around walls, to within 0.45 m of a goal.

        m v' = 100 u - v + contact forces,   m = 4.19 kg,   each component of v clipped to +-5 m/s

    Observation
    | #    | quantity         | range     | unit |
    |------|------------------|-----------|------|
    | 0, 1 | position x, y    | the maze  | m    |
    | 2, 3 | velocity x, y    | +-5.3 [1] | m/s  |
    | 4, 5 | goal x, y        | the maze  | m    |

    Action
    | #    | quantity                     | range   | unit  |
    |------|------------------------------|---------|-------|
    | 0, 1 | force in x, y, over 100 N    | [-1, 1] | 1     |

    [1] A bounce out of a corner can be faster. Larger forces act as the largest. Goal and start are drawn from the
    marked cells of the maze, the start at rest and more than 0.5 m from the goal. Arrival is seen at the end of a
    control interval and ends the episode (a true termination, with reward 1 if it is sparse); otherwise the horizon
    truncates it.

    The motion is that of the MuJoCo model step by step, contacts with walls included (`rlcore.envs.maze.ball`), to the
    accuracy of the simulator's solver. Against Gymnasium-Robotics' PointMaze-v3:
    - observations are one vector, and the default is `continuing_task=False`; `at_goal` move is its
      `continuing_task=True, reset_target=True`, stay its `continuing_task=True`;
    - rewards that last (dense, stay) are rates per second: returns are 0.01 times its own; those on arrival are equal;
    - when a goal moves, the next observation shows the new goal, there only the one after it;
    - another random generator.

    Known answer: `WaypointPolicy` follows a shortest path of cells, and `fewest_steps` is a lower bound of any policy.

    Source: Fu et al., "D4RL", arXiv 2004.07219 (maze2d); de Lazcano et al., Gymnasium-Robotics.
    """

    def __init__(
        self,
        config: PointMazeConfig = PointMazeConfig(),
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        for name, value, known in (("reward", config.reward, Pay), ("at_goal", config.at_goal, AtGoal)):
            if value not in get_args(known):
                raise ConfigError(f"{name} must be one of {', '.join(get_args(known))}, got {value!r}")
        check_positive("dt", config.dt, "s")
        check_not_negative("spread", config.spread, "m")
        check_not_negative("horizon", config.horizon, "s")
        self.substeps = round(config.dt / ball.STEP)
        if self.substeps < 1 or abs(config.dt - self.substeps * ball.STEP) > 1e-9:
            raise ConfigError(f"dt must be a multiple of {ball.STEP} s, got {config.dt} s")
        if config.spread > 0.5 - ball.RADIUS:
            raise ConfigError(f"spread must be at most {0.5 - ball.RADIUS} m, or the ball starts in a wall")
        self.config, self.layout = config, layout(config.maze)
        spec = ControlSpec(
            name="rlcore/PointMaze-v0",
            state_dim=6,
            action_dim=2,
            noise_dim=3 if config.at_goal == "move" else 0,
            dt=config.dt,
            horizon=config.horizon or next((s for name, s in HORIZONS if config.maze.startswith(name)), 3.0),
            discount_rate=config.discount_rate,
            initial_noise_dim=6,
        )
        super().__init__(spec, dtype=dtype, device=device)
        self.walls = torch.as_tensor(self.layout.walls, device=self.device)  # [H, W]
        self.starts, self.goals = (
            torch.tensor([self.layout.centre(cell) for cell in cells], dtype=dtype, device=self.device)  # [C, 2]
            for cells in (self.layout.starts, self.layout.goals)
        )

    @property
    def terminates(self) -> bool:
        return self.config.at_goal == "end"

    def initial_state(self, noise: Tensor) -> EnvState:  # [B, 6]
        goal = self.near(self.goals, noise[:, :3])
        far = beyond(START_APART, self.starts, goal)  # [B, C]
        position = self.near(self.starts, noise[:, 3:], far)
        t = torch.zeros(noise.shape[0], dtype=torch.float64, device=noise.device)
        return EnvState(t, torch.cat([position, torch.zeros_like(position), goal], 1))

    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        position, velocity, goal = state.x[:, :2], state.x[:, 2:4], state.x[:, 4:]
        force = action.clamp(-1.0, 1.0)
        for _ in range(self.substeps):
            position, velocity = ball.step(position, velocity, force, self.walls)
        distance = (position - goal).norm(dim=1)  # [B]
        reward = self.spec.dt * torch.exp(-distance)
        if self.config.reward == "sparse":
            pay = {"end": 0.0, "move": 1.0, "stay": self.spec.dt}[self.config.at_goal]
            reward = pay * (distance <= GOAL_RADIUS).to(distance)
        if self.config.at_goal == "move":
            goal = self.moved(goal, position, distance <= GOAL_RADIUS, noise)
        return EnvState(state.t + self.spec.dt, torch.cat([position, velocity, goal], 1)), reward

    def terminated(self, state: EnvState) -> Tensor:  # -> bool [B]
        return self.arrived(state.x) & self.terminates

    def terminal_reward(self, state: EnvState) -> Tensor:  # -> [B]
        return torch.full_like(state.x[:, 0], 1.0 if self.config.reward == "sparse" else 0.0)

    def arrived(self, x: Tensor) -> Tensor:  # [B, 6] -> bool [B]
        """Whether the ball is at its goal."""
        distance: Tensor = (x[:, :2] - x[:, 4:6]).norm(dim=1)
        return distance <= GOAL_RADIUS

    def moved(self, goal: Tensor, position: Tensor, reached: Tensor, noise: Tensor) -> Tensor:  # -> [B, 2]
        """Where it was reached, a new goal that is not, if the maze has one."""
        far = beyond(GOAL_RADIUS, self.goals, position - self.offset(noise))  # [B, C]
        return torch.where((reached & far.any(1)).unsqueeze(1), self.near(self.goals, noise, far), goal)

    def near(self, centres: Tensor, noise: Tensor, allowed: Tensor | None = None) -> Tensor:  # -> [B, 2]
        """A point near one of the centres [C, 2], uniform among those allowed [B, C], from three normals [B, 3]."""
        place, last = uniform(noise[:, 0]), len(centres) - 1
        if allowed is None:
            return centres[(place * len(centres)).long().clamp(max=last)] + self.offset(noise)
        rank = allowed.to(noise).cumsum(1)  # [B, C]
        wanted = ((place * rank[:, -1]).floor() + 1.0).minimum(rank[:, -1])  # in 1 .. number allowed
        index = (rank < wanted.unsqueeze(1)).to(noise).sum(1).long()
        return centres[index.clamp(max=last)] + self.offset(noise)

    def offset(self, noise: Tensor) -> Tensor:  # [B, 3] -> [B, 2] m
        """From the centre of a cell."""
        return self.config.spread * (2.0 * uniform(noise[:, 1:]) - 1.0)

    def render(self, state: EnvState) -> NDArray[np.uint8]:  # [400, 400, 3]
        """Picture of row 0: the walls, the goal with its radius, the ball and the way it moves."""
        return draw_maze(self.layout.rows, state.x[0].tolist(), ball.RADIUS, GOAL_RADIUS)


def beyond(distance: float, centres: Tensor, point: Tensor) -> Tensor:  # m, [C, 2], [B, 2] -> bool [B, C]
    """Which centres are further from a point than that."""
    apart = (centres[:, 0] - point[:, 0:1]) ** 2 + (centres[:, 1] - point[:, 1:2]) ** 2
    return apart > distance**2


def uniform(noise: Tensor) -> Tensor:
    """Standard normals -> uniform in [0, 1]."""
    return 0.5 * (1.0 + torch.erf(noise * 0.5**0.5))
