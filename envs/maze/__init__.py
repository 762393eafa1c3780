"""Mazes for a ball that is pushed about, in batches."""

from rlcore.envs.maze.layout import LAYOUTS, Layout, layout
from rlcore.envs.maze.point_maze import PointMaze, PointMazeConfig
from rlcore.envs.maze.waypoints import WaypointPolicy, fewest_steps

__all__ = ["LAYOUTS", "Layout", "PointMaze", "PointMazeConfig", "WaypointPolicy", "fewest_steps", "layout"]
