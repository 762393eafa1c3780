"""Callbacks: what happens around the training loop, each in one small object, called with a read-only tick."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import torch

from rlcore.errors import ConfigError, NumericsError
from rlcore.parallel import world
from rlcore.simulation.policy import Policy
from rlcore.training.trainer import Callback, Tick, to_floats

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from rlcore.reporting.loggers import Logger


class Every:
    """Calls `callback` after every `iterations` iterations and after the last one."""

    def __init__(self, iterations: int, callback: Callback) -> None:
        if iterations < 1:
            raise ConfigError(f"a callback needs iterations >= 1 between its calls, got {iterations}")
        self.iterations, self.callback = iterations, callback

    def __call__(self, tick: Tick) -> bool | None:
        return self.callback(tick) if tick.last or tick.iteration % self.iterations == 0 else None


class StopWhen:
    """Stops the run as soon as `predicate` holds."""

    def __init__(self, predicate: Callable[[Tick], bool]) -> None:
        self.predicate = predicate

    def __call__(self, tick: Tick) -> bool:
        return not self.predicate(tick)


class CheckFinite:
    """Stops with a `NumericsError` when a metric is NaN or infinite."""

    def __call__(self, tick: Tick) -> None:
        for name, value in tick.metrics.items():
            if not math.isfinite(number := float(value)):
                raise NumericsError(
                    f"{name} became {number} at iteration {tick.iteration} of {tick.iterations} "
                    f"(phase {tick.phase.name!r}); lower the learning rate or the time step"
                )


class LogMetrics:
    """Writes the metrics of the last update, with the speed, every `every` iterations."""

    def __init__(self, logger: Logger, every: int) -> None:
        if every < 1:
            raise ConfigError(f"log_every must be at least 1 iteration, got {every}")
        self.logger, self.every = logger, every
        self.begun, self.steps = time.perf_counter(), -1

    def __call__(self, tick: Tick) -> None:
        if self.steps < 0:  # the clock starts here, so that a resumed run does not count what was done before
            self.begun, self.steps = time.perf_counter(), tick.steps
        if tick.last or tick.iteration % self.every == 0:
            wall = time.perf_counter() - self.begun
            values = to_floats(tick.metrics) | {"time/wall": wall}
            if tick.steps > self.steps:
                values["time/fps"] = (tick.steps - self.steps) / max(wall, 1e-9)
            self.logger.write(tick.steps, values, simulated=tick.simulated)


class Evaluate:
    """Writes what `function` measures on the policy every `every` iterations and at the end; 0 means only at the end.

    Training does not notice: torch's global random state is put back afterwards.
    """

    def __init__(self, function: Callable[[Policy], Mapping[str, float]], logger: Logger, every: int) -> None:
        if every < 0:
            raise ConfigError(f"evaluate_every must not be negative, got {every} iterations")
        self.function, self.logger, self.every = function, logger, every
        self.values: dict[str, float] = {}

    def __call__(self, tick: Tick) -> None:
        if tick.last or (self.every and tick.iteration % self.every == 0):
            with global_randomness_kept():
                self.values = to_floats(self.function(tick.policy))
            self.logger.write(tick.steps, self.values, simulated=tick.simulated)


@contextmanager
def global_randomness_kept() -> Iterator[None]:
    """Torch's global random state, on every device in use, is the same after the block as before it."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=list(devices)):
        yield


class Progress:
    """Shows rate, time left and the main metric: a bar on a terminal, a plain line every `seconds` when piped."""

    def __init__(
        self,
        label: str = "",
        main_metric: str = "",
        *,
        values: Callable[[], Mapping[str, float]] = dict,
        seconds: float = 5.0,
        silent: bool = False,
        file: TextIO | None = None,
    ) -> None:
        self.label, self.main_metric, self.values = label, main_metric, values
        self.seconds, self.silent, self.file = seconds, silent, file
        self.bar: RichProgress | None = None
        self.task: TaskID | None = None
        self.begun = self.shown = time.perf_counter()
        self.first = -1
        self.first_steps = 0

    def __call__(self, tick: Tick) -> None:
        if self.silent:
            return
        now = time.perf_counter()
        if self.first < 0:
            self.begun, self.first, self.first_steps = now, tick.iteration, tick.steps
        terminal = (self.file or sys.stderr).isatty()
        if tick.last or now - self.shown >= (0.1 if terminal else self.seconds):
            self.shown = now
            if terminal:
                self.draw(tick, now)
            else:
                print(self.line(tick, now), file=self.file or sys.stderr, flush=True)

    def close(self) -> None:
        """Give the terminal back; needed when a run ends early."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def status(self, tick: Tick, now: float) -> str:
        """Such as `3.2e+05 steps/s, eval/return -0.41`."""
        parts = []
        if tick.steps > self.first_steps:
            parts.append(f"{(tick.steps - self.first_steps) / max(now - self.begun, 1e-9):.2g} steps/s")
        value = tick.metrics.get(self.main_metric, self.values().get(self.main_metric))
        if value is not None:
            parts.append(f"{self.main_metric} {float(value):.4g}")
        return ", ".join(parts)

    def line(self, tick: Tick, now: float) -> str:
        rate = (tick.iteration - self.first) / max(now - self.begun, 1e-9)
        parts = [f"{self.label} {tick.iteration}/{tick.iterations}".strip()]
        if tick.last:
            parts.append(f"done in {now - self.begun:.1f} s")
        elif rate > 0:
            parts.append(f"{(tick.iterations - tick.iteration) / rate:.0f} s left")
        return ", ".join(filter(None, [*parts, self.status(tick, now)]))

    def draw(self, tick: Tick, now: float) -> None:
        if self.bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            text = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            console = Console(file=self.file or sys.stderr)
            self.bar = RichProgress(*text, TextColumn("{task.fields[status]}"), console=console)
            self.task = self.bar.add_task(self.label, total=tick.iterations, completed=tick.iteration, status="")
            self.bar.start()
        assert self.task is not None
        self.bar.update(self.task, completed=tick.iteration, total=tick.iterations, status=self.status(tick, now))
        if tick.last:
            self.bar.refresh()
            self.close()


class SaveCheckpoint:
    """Calls `save` after every `every` iterations or `seconds` seconds, whichever comes first; 0 switches one off.

    Of several processes the first decides when.
    """

    def __init__(self, save: Callable[[Tick], None], *, every: int = 0, seconds: float = 30.0) -> None:
        if every < 0 or not seconds >= 0.0:
            raise ConfigError(f"checkpoint intervals must not be negative, got {every} iterations and {seconds} s")
        self.save, self.every, self.seconds = save, every, seconds
        self.saved = time.perf_counter()

    def __call__(self, tick: Tick) -> None:
        due = self.every > 0 and tick.iteration % self.every == 0
        late = self.seconds > 0 and time.perf_counter() - self.saved >= self.seconds
        if world().as_leader(due or late):
            self.save(tick)
            self.saved = time.perf_counter()
