"""How well a gait walks MuJoCo's ant, and the search for one that walks well."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import gymnasium
import torch
from torch import Tensor

from rlcore.envs.robotics.ant_gait import AntGait, gait_of, walk
from rlcore.envs.robotics.ant_maze import DT
from rlcore.envs.robotics.extra import require_robotics
from rlcore.functional.cross_entropy import SearchConfig, cross_entropy
from rlcore.seeding import derive_seed
from rlcore.training.recorder import SILENT, Recorder

SPREAD = AntGait(0.15, 0.1, 0.15, 0.6, 0.15, 0.6, 0.6, 0.05, 0.4)
"""How far around its start the search begins to look."""
LEG = 100  # steps in one direction


@dataclass(frozen=True)
class WalkSearch:
    """The search for a gait."""

    search: SearchConfig = field(default_factory=lambda: SearchConfig(generations=0, population=24, elite=6))
    """No generation at all takes the gait as it is."""
    trials: int = 3
    """Walks of `LEG` steps in each of two directions by which a candidate is judged."""
    noise: float = 0.2
    """Standard deviation of the noise on the torques."""
    fall: float = 2.0
    """Cost of lying on the back at the end of a trial [m/s]."""
    side: float = 0.5
    """Cost of walking aside, per speed."""


@cache
def bare_ant() -> Any:
    """The ant on a plane; a fall does not end an episode."""
    require_robotics()
    return gymnasium.make(
        "Ant-v5", include_cfrc_ext_in_observation=False, terminate_when_unhealthy=False, disable_env_checker=True
    ).unwrapped


def speed(gait: AntGait, config: WalkSearch, seed: int) -> float:
    """Mean speed along two headings in turn [m/s], less the costs; trials with the same seed meet the same chances."""
    ant, generator = bare_ant(), torch.Generator().manual_seed(seed % 2**63)
    total = 0.0
    for _ in range(config.trials):
        obs, _ = ant.reset(seed=int(torch.randint(2**31, (), generator=generator)))
        first, turn = (2.0 * math.pi * torch.rand(2, generator=generator, dtype=torch.float64)).tolist()
        for heading in (first, first + turn):
            here = torch.from_numpy(ant.data.qpos[:2].copy())
            shake = config.noise * torch.randn(LEG, 8, generator=generator, dtype=torch.float64)
            angle = torch.tensor([heading], dtype=torch.float64)
            for noise in shake:
                torque = walk(gait, torch.from_numpy(obs).unsqueeze(0), angle)[0] + noise
                obs = ant.step(torque.clamp(-1.0, 1.0).numpy())[0]
            moved = (torch.from_numpy(ant.data.qpos[:2].copy()) - here) / (LEG * DT)  # m/s
            ahead = torch.stack([angle.cos(), angle.sin()], 1)[0]
            aside = torch.stack([-angle.sin(), angle.cos()], 1)[0]
            total += float(moved @ ahead) - config.side * abs(float(moved @ aside))
        total -= 2.0 * config.fall * float(upright(torch.from_numpy(obs)) < 0.0)
    return total / (2 * config.trials)


def upright(body: Tensor) -> Tensor:  # [..., 27] -> [...]
    """Cosine of the angle between the ant's back and the vertical."""
    return 1.0 - 2.0 * (body[..., 2].square() + body[..., 3].square())


def find_gait(start: AntGait, config: WalkSearch, seed: int, recorder: Recorder = SILENT) -> AntGait:
    """The mean of the last generation of the search; `start` itself without a generation."""
    found = start.vector()
    generator = torch.Generator().manual_seed(derive_seed(seed, "gait"))

    def score(generation: int, candidate: Tensor) -> float:
        return speed(gait_of(candidate), config, derive_seed(seed, f"walk/{generation}"))

    steps = cross_entropy(score, found, SPREAD.vector(), config.search, generator=generator)
    for generation, (mean, elite) in enumerate(steps, 1):
        found = mean
        recorder.log(generation, {"search/elite_speed": elite})
    return gait_of(found)
