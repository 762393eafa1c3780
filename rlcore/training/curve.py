"""What is measured along a run, one value per seed, kept in memory and through a resume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from rlcore.errors import ConfigError
from rlcore.reporting.loggers import Logger
from rlcore.simulation.policy import Policy
from rlcore.training.callbacks import global_randomness_kept
from rlcore.training.trainer import Tick


def dense_early(early: int, until: int, late: int) -> Callable[[int], bool]:
    """Due every `early` iterations up to `until`, and every `late` iterations from there on."""
    if min(early, late) < 1:
        raise ConfigError(f"need at least 1 iteration between two measurements, got {early} and {late}")
    return lambda iteration: iteration % (early if iteration <= until else late) == 0


class Curve:
    """Calls `function` on the policy after each iteration of a phase that is `due`, and at the end of the run.

    Iterations are those of the phase called `phase`. Each call gives tensors [S], which `steps` and `values` keep;
    their means go to the logger under `tag/`. Training does not notice.
    """

    def __init__(
        self,
        function: Callable[[Policy], Mapping[str, Tensor]],
        due: Callable[[int], bool],
        *,
        phase: str,
        logger: Logger | None = None,
        tag: str = "diagnose",
    ) -> None:
        self.function, self.due, self.phase, self.logger, self.tag = function, due, phase, logger, tag
        self.iterations: list[int] = []
        self.rows: dict[str, list[Tensor]] = {}

    def __call__(self, tick: Tick) -> None:
        if tick.phase.name == self.phase and (tick.last or self.due(tick.position.iteration)):
            with global_randomness_kept():
                found = self.function(tick.policy)
            self.iterations.append(tick.position.iteration)
            for name, value in found.items():
                self.rows.setdefault(name, []).append(value.detach().cpu().clone())
            if self.logger is not None:
                means = {f"{self.tag}/{name}": float(value.mean()) for name, value in found.items()}
                self.logger.write(tick.steps, means, simulated=tick.simulated)

    @property
    def values(self) -> dict[str, Tensor]:  # each [T, S]
        """What was measured, one row per call."""
        return {name: torch.stack(rows) for name, rows in self.rows.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"iterations": list(self.iterations), "rows": {name: list(rows) for name, rows in self.rows.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.iterations = list(state["iterations"])
        self.rows = {name: list(rows) for name, rows in state["rows"].items()}
