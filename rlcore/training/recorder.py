"""Recorders: where an experiment's numbers go, and how a run that was killed goes on.

An experiment asks its recorder to train, to log and for sub-recorders, and never knows whether anything is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch

from rlcore.errors import CheckpointError, ConfigError, FolderError
from rlcore.reporting.loggers import CsvLogger, Fanout, Logger, TensorBoardLogger, hyperparameter_table
from rlcore.training.agent import Agent
from rlcore.training.callbacks import CheckFinite, Evaluate, Every, LogMetrics, Progress, SaveCheckpoint
from rlcore.training.checkpoint import read_state, write_state
from rlcore.training.files import check_free, check_same, plain, read_json, versions, write_json
from rlcore.training.resume import Stateful, check_same_start, load_run_state, run_state
from rlcore.training.trainer import Callback, Phase, Position, Tick, run


class Recorder:
    """Trains and records nothing; `RunFolder` is the one that writes."""

    label = ""
    """What the progress bar calls this run."""
    silent = True
    """Whether no progress is shown."""

    @property
    def result(self) -> dict[str, float] | None:
        """What `finish` stored in an earlier life of this run; None while it is unfinished."""
        return None

    def child(self, name: str, **about: Any) -> Recorder:
        """A recorder for a part of this run, such as one of several agents."""
        return self

    def log(self, step: int, values: Mapping[str, Any], *, simulated: float = 0.0) -> None:
        """Record values at `step` environment steps and `simulated` seconds of physical time."""

    def hparams(self, values: Mapping[str, float | str | bool]) -> None:
        """Fill TensorBoard's hparams tab with settings; it lists every scalar beside them."""

    def figure_path(self, name: str) -> Path | None:
        """Where to save the figure `name`; None when nothing is to be written."""
        return None

    def finish(self, result: Mapping[str, float]) -> dict[str, float]:
        """Store the result of the whole run."""
        return dict(result)

    def advice(self, command: str) -> tuple[str, ...]:
        """What to tell someone who stopped this run; nothing if it left nothing to resume."""
        return ()

    def logger(self) -> Logger:
        return Fanout(())

    def restore(
        self, agent: Agent[Any], phases: Sequence[Phase], keep: Mapping[str, Stateful]
    ) -> dict[str, Any] | None:
        """Put everything back where the last checkpoint left it; None when there is none."""
        return None

    def save(self, state: dict[str, Any]) -> None:
        """Keep the state of a run in progress."""

    def saver(self, save: Callable[[Tick], None]) -> SaveCheckpoint:
        """Decides when `train` saves."""
        return SaveCheckpoint(save, every=0, seconds=0.0)

    def train(
        self,
        agent: Agent[Any],
        phases: Sequence[Phase],
        *,
        evaluate: Callable[[], Mapping[str, float]] | None = None,
        evaluate_every: int = 0,
        log_every: int = 100,
        main_metric: str = "",
        callbacks: Iterable[Callback] = (),
        keep: Mapping[str, Stateful] | None = None,
    ) -> dict[str, float]:
        """Work through the phases; returns the metrics of the last update and of the last evaluation.

        `evaluate` runs every `evaluate_every` iterations and at the end (0: only then) and leaves training as it was.
        `keep` names what else the run depends on beside the agent and its sources. One recorder trains once.
        """
        callbacks, keep = tuple(callbacks), dict(keep or {})
        check_same_start(agent)
        stored = self.restore(agent, phases, keep)
        if stored is not None and stored["finished"]:
            return dict(stored["result"])
        start = None if stored is None else Position(*stored["position"])
        logger, device = self.logger(), next((p.device for p in agent.parameters()), torch.device("cpu"))
        check = Every(1 if device.type == "cpu" else log_every, CheckFinite())  # on a GPU a look waits for it
        metrics = LogMetrics(logger, log_every)
        measure = None if evaluate is None else Evaluate(lambda _: evaluate(), logger, evaluate_every)
        latest = dict if measure is None else lambda: measure.values
        progress = Progress(self.label, main_metric, values=latest, silent=self.silent)
        save = self.saver(lambda tick: self.save(run_state(agent, phases, keep, tick.position)))

        def after(tick: Tick) -> bool:
            check(tick)
            if [callback for callback in callbacks if callback(tick) is False]:  # every callback is called
                tick = replace(tick, iterations=tick.iteration)  # so that the others take it for the last one
            metrics(tick)
            if measure is not None:
                measure(tick)
            progress(tick)
            if not tick.last:
                save(tick)
            return not tick.last

        try:
            result = run(agent, phases, [after], start=start)
        finally:
            progress.close()
        result |= {} if measure is None else measure.values
        self.save(run_state(agent, phases, keep, Position(len(phases))) | {"finished": True, "result": result})
        return result


SILENT = Recorder()


class RunFolder(Recorder):
    """A folder: config.json, versions.json, metrics.csv, TensorBoard events, checkpoints/, figures/ and result.json.

    Nothing is created before there is something to record, so a run that is refused leaves no trace.
    """

    def __init__(
        self,
        path: str | Path,
        about: Any = None,
        *,
        resume: bool = False,
        silent: bool = False,
        checkpoint_every: int = 0,
        checkpoint_seconds: float = 30.0,
        parent: RunFolder | None = None,
        label: str = "",
    ) -> None:
        """`about` is what defines the run (a config, or a dict with one); a resume under another one is refused."""
        self.path, self.about, self.resume, self.silent = Path(path), plain(about or {}), resume, silent
        self.checkpoint_every, self.checkpoint_seconds = checkpoint_every, checkpoint_seconds
        self.parent, self.label, self.open, self.trained, self.replaying = parent, label, False, False, False
        self.stored: dict[str, Any] | None = None
        self.writer: Logger | None = None
        self.tensorboard: TensorBoardLogger | None = None
        self.saver(lambda _: None)  # refuses bad intervals at the door
        if resume:
            self._look_back()
        else:
            check_free(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoints" / "latest.pt"

    @property
    def result(self) -> dict[str, float] | None:
        path = self.path / "result.json"
        if not (self.resume and path.exists()):
            return None
        return {name: float(value) for name, value in read_json(path).items()}

    def child(self, name: str, **about: Any) -> RunFolder:
        if not name or Path(name).name != name:
            raise ConfigError(f"a part of a run needs a plain name, got {name!r}")
        return type(self)(
            self.path / name,
            self.about | {"part": name} | about,
            resume=self.resume,
            silent=self.silent,
            checkpoint_every=self.checkpoint_every,
            checkpoint_seconds=self.checkpoint_seconds,
            parent=self,
            label=f"{self.label} {name}".strip(),
        )

    def log(self, step: int, values: Mapping[str, Any], *, simulated: float = 0.0) -> None:
        if not self.replaying:
            self.logger().write(step, values, simulated=simulated)

    def hparams(self, values: Mapping[str, float | str | bool]) -> None:
        if not self.replaying:
            self.logger()
            assert self.tensorboard is not None
            self.tensorboard.write_hparams(values)

    def figure_path(self, name: str) -> Path:
        self._create()
        (self.path / "figures").mkdir(exist_ok=True)
        return self.path / "figures" / name

    def finish(self, result: Mapping[str, float]) -> dict[str, float]:
        self._create()
        values = {name: float(value) for name, value in result.items()}
        write_json(self.path / "result.json", values)
        self.close()
        return values

    def advice(self, command: str) -> tuple[str, ...]:
        return (f"continue with: {command}",) if self.open else ()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def logger(self) -> Logger:
        if self.writer is None:
            self._create()
            steps = None if self.stored is None else int(self.stored["steps"])
            csv = CsvLogger(self.path / "metrics.csv", resume_from_step=steps)
            self.tensorboard = TensorBoardLogger(self.path, purge_step=None if steps is None else steps + 1)
            self.writer = Fanout((csv, self.tensorboard))
            if steps is None:
                self.tensorboard.write(0, hyperparameter_table(self.about))
        return self.writer

    def restore(
        self, agent: Agent[Any], phases: Sequence[Phase], keep: Mapping[str, Stateful]
    ) -> dict[str, Any] | None:
        if self.trained:
            raise ConfigError("one recorder trains once, and this is its second time; use recorder.child(name)")
        self.trained, self.replaying = True, False
        if self.stored is not None:
            load_run_state(self.stored, agent, phases, keep, self.checkpoint)
            self.replaying = self.result is not None  # what follows a finished training was logged already, too
        return self.stored

    def save(self, state: dict[str, Any]) -> None:
        self._create()
        metrics = self.path / "metrics.csv"
        with metrics.open("ab") as file:
            os.fsync(file.fileno())  # the checkpoint must not outlive the lines it counts
            state["metrics_bytes"] = file.tell()
        write_state(self.checkpoint, state | {"about": self.about})

    def saver(self, save: Callable[[Tick], None]) -> SaveCheckpoint:
        return SaveCheckpoint(save, every=self.checkpoint_every, seconds=self.checkpoint_seconds)

    def _look_back(self) -> None:
        """Read what an earlier life left, and change nothing yet."""
        if (self.path / "config.json").exists():
            check_same(read_json(self.path / "config.json"), self.about, self.path)
        elif self.parent is None:
            raise CheckpointError(f"{self.path} holds no run to resume (no config.json); check the path")
        if self.checkpoint.exists():
            self.stored = read_state(self.checkpoint)
            missing = {"steps", "position", "finished", "metrics_bytes", "rng", "sources"} - set(self.stored)
            if missing:
                raise CheckpointError(f"{self.checkpoint} is not the checkpoint of a run: it lacks {sorted(missing)}")
            check_same(self.stored["about"], self.about, self.checkpoint)
        self.replaying = self.stored is not None or self.result is not None  # logged again before `train` puts us back

    def _create(self) -> None:
        if self.open:
            return
        if self.parent is not None:
            self.parent._create()
        if not self.resume:
            check_free(self.path)  # again: time has passed
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / "config.json").exists():
                write_json(self.path / "config.json", self.about)
                write_json(self.path / "versions.json", versions())
            self._cut()
        except OSError as error:
            raise FolderError(f"cannot write to {self.path}: {error.strerror}; choose another folder") from error
        self.open = True

    def _cut(self) -> None:
        """Take back what was recorded after the last checkpoint: it will happen again."""
        metrics = self.path / "metrics.csv"
        for leftover in self.path.glob("checkpoints/.latest.pt.*.tmp"):
            leftover.unlink()
        if not metrics.exists() or (self.result is not None and self.stored is None):
            return
        if self.stored is None:
            metrics.unlink()
            for events in self.path.glob("events.out.tfevents.*"):
                events.unlink()
        elif self.result is None:
            os.truncate(metrics, min(self.stored["metrics_bytes"], metrics.stat().st_size))
