"""Where numbers go: a CSV file (the record of truth), TensorBoard (a view of it), the console, or several at once."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

from rlcore.errors import FolderError

COLUMNS = ("step", "simulated", "tag", "value")

LAYOUT = {
    "Returns": {
        "return": ["Multiline", ["eval/return"]],
        "average reward": ["Multiline", ["eval/average_reward"]],
        "gap to the optimum": ["Multiline", ["eval/gap"]],
    },
    "Training": {
        "residuals and losses": ["Multiline", ["train/(?!average_reward|learning_rate).*"]],
        "average reward, estimated": ["Multiline", ["train/average_reward"]],
        "learning rate": ["Multiline", ["train/learning_rate"]],
    },
    "Time": {"steps per second": ["Multiline", ["time/fps"]], "simulated seconds": ["Multiline", ["time/simulated"]]},
}
"""The one custom-scalar layout of every run: panel -> chart -> tags, as regular expressions."""


@dataclass(frozen=True, eq=False)
class Image:
    """A picture to log."""

    pixels: NDArray[np.uint8]  # [H, W, 3]


@dataclass(frozen=True)
class Text:
    """Markdown to log."""

    markdown: str


class Logger(Protocol):
    """A place to write to. `step` counts environment steps, `simulated` is physical time [s], both over all paths."""

    def write(self, step: int, values: Mapping[str, float | Image | Text], *, simulated: float = 0.0) -> None: ...

    def close(self) -> None: ...


def numbers_of(values: Mapping[str, float | Image | Text]) -> dict[str, float]:
    """The values that are numbers, as Python floats."""
    return {tag: float(value) for tag, value in values.items() if not isinstance(value, Image | Text)}


class CsvLogger:
    """Tidy rows `step,simulated,tag,value`; floats are written so that they read back to the same bits.

    Each `write` is flushed: a kill loses at most the line being written. To resume, give the step of the checkpoint:
    rows beyond it and a torn last line are dropped. Images and texts are not kept here.
    """

    def __init__(self, path: str | Path, resume_from_step: int | None = None) -> None:
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if resume_from_step is not None and path.exists():
                replace_text(path, rows_up_to(path, resume_from_step))
                self._file = path.open("a", newline="", encoding="utf-8")
                return
            self._file = path.open("x", newline="", encoding="utf-8")
        except FolderError:
            raise
        except FileExistsError as error:
            raise FolderError(f"{path} holds another run; choose another folder, or resume it") from error
        except OSError as error:
            raise FolderError(f"cannot write {path}: {error.strerror}; choose another folder") from error
        self._file.write(",".join(COLUMNS) + "\n")
        self._file.flush()

    def write(self, step: int, values: Mapping[str, float | Image | Text], *, simulated: float = 0.0) -> None:
        block = io.StringIO()
        rows = ((step, repr(float(simulated)), tag, repr(value)) for tag, value in numbers_of(values).items())
        csv.writer(block, lineterminator="\n").writerows(rows)
        self._file.write(block.getvalue())
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def rows_up_to(path: Path, step: int) -> str:
    """The header and the complete lines of a metrics file whose step is at most `step`."""
    header, *lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) or [""]
    if header.strip() != ",".join(COLUMNS):
        raise FolderError(f"{path} must begin with {','.join(COLUMNS)!r}, got {header.strip()[:40]!r}; not a run's")
    kept = [header]
    for line in lines:
        first = line.partition(",")[0]
        if line.endswith("\n") and first.isdigit() and int(first) <= step:
            kept.append(line)
    return "".join(kept)


def replace_text(path: Path, text: str) -> None:
    """Replace a file's content as a whole: a kill leaves the old content or the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8", newline="")
    temporary.replace(path)


class TensorBoardLogger:
    """Event files for TensorBoard; to resume, `purge_step` hides what was written at that step or later."""

    def __init__(self, folder: str | Path, purge_step: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and not every run wants it

        try:
            self._writer: Any = SummaryWriter(str(folder), purge_step=purge_step)
        except OSError as error:
            raise FolderError(f"cannot write to {folder}: {error.strerror}; choose another folder") from error
        self._writer.add_custom_scalars(LAYOUT)

    def write(self, step: int, values: Mapping[str, float | Image | Text], *, simulated: float = 0.0) -> None:
        for tag, value in {"time/simulated": simulated, **values}.items():
            if isinstance(value, Image):
                self._writer.add_image(tag, value.pixels, step, dataformats="HWC")
            elif isinstance(value, Text):
                self._writer.add_text(tag, value.markdown, step)
            else:
                self._writer.add_scalar(tag, float(value), step)
        self._writer.flush()

    def write_hparams(self, values: Mapping[str, object]) -> None:
        """Fill the hparams tab with the settings (nested or flat) of this run.

        The summaries go into this very run; `SummaryWriter.add_hparams` would open a second one in a sub-folder. What
        `hparams` says of the whole experiment is left out: TensorBoard believes the first run that says it, and then
        hides the settings that only other runs have. Without it, it collects settings and metrics from all runs.
        """
        from torch.utils.tensorboard.summary import hparams

        _, session_start, session_end = hparams(flatten(values), {})  # type: ignore[no-untyped-call]
        self._writer.file_writer.add_summary(session_start)
        self._writer.file_writer.add_summary(session_end)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class ConsoleLogger:
    """One plain line per write: `step 1000  12.3 s simulated  eval/return -1.23`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, step: int, values: Mapping[str, float | Image | Text], *, simulated: float = 0.0) -> None:
        words = [f"{tag} {value:.4g}" for tag, value in numbers_of(values).items()]
        if words:
            self._stream.write("  ".join([f"step {step}", f"{simulated:.1f} s simulated", *words]) + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Nothing to do: the stream belongs to the caller."""


class Fanout:
    """Writes to several loggers, in order."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self.loggers = tuple(loggers)

    def write(self, step: int, values: Mapping[str, float | Image | Text], *, simulated: float = 0.0) -> None:
        for logger in self.loggers:
            logger.write(step, values, simulated=simulated)

    def close(self) -> None:
        with ExitStack() as stack:  # closes the others even if one fails
            for logger in self.loggers:
                stack.callback(logger.close)


def flatten(settings: Mapping[str, object], prefix: str = "") -> dict[str, float | str | bool]:
    """Nested settings by dotted name; what is not a finite number, a bool or a string becomes its text."""
    flat: dict[str, float | str | bool] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        elif isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
            flat[prefix + name] = value
        else:
            flat[prefix + name] = str(value)  # TensorBoard cannot show an infinite number
    return flat


def hyperparameter_table(settings: Mapping[str, object]) -> dict[str, Text]:
    """The settings as one Markdown table under the tag `hyperparameters`, ready to be written."""
    rows = (f"|{name}|{str(value).replace('|', '&#124;')}|" for name, value in flatten(settings).items())
    return {"hyperparameters": Text("\n".join(["|setting|value|", "|-|-|", *rows]))}
