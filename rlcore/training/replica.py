"""Recording among several processes: the first writes the folder, the others train along with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlcore.errors import ProcessError, RlcoreError
from rlcore.parallel import world
from rlcore.training.agent import Agent
from rlcore.training.files import flat, plain
from rlcore.training.recorder import Recorder, RunFolder
from rlcore.training.resume import Stateful, load_run_state
from rlcore.training.trainer import Phase


class Replica(Recorder):
    """What another process than the first has for a recorder: it hears what the folder says, and writes nothing."""

    def __init__(self) -> None:
        refused, self.known, self.stored = world().from_leader(("", None, None))
        if refused:
            raise ProcessError(f"process 0 cannot record: {refused}")

    @property
    def result(self) -> dict[str, float] | None:
        return self.known

    def child(self, name: str, **about: Any) -> Replica:
        return Replica()

    def restore(
        self, agent: Agent[Any], phases: Sequence[Phase], keep: Mapping[str, Stateful]
    ) -> dict[str, Any] | None:
        if self.stored is not None:
            load_run_state(self.stored, agent, phases, keep, Path("the checkpoint"))
        return self.stored

    def __enter__(self) -> Replica:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class LeadingFolder(RunFolder):
    """The run folder of the first process, which tells the others what an earlier life left, or why there is none."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        refused = ""
        try:
            super().__init__(*args, **kwargs)
        except RlcoreError as error:
            refused = str(error)
            raise
        finally:
            world().from_leader((refused, None, None) if refused else ("", self.result, self.stored))


def run_folder(path: Path, about: Any, *, resume: bool, label: str = "", **intervals: Any) -> RunFolder | Replica:
    """The recorder of this process, checkpoints in the intervals of `RunFolder`; raises unless all do the same run."""
    world().check_same({f"the setting {name}": value for name, value in flat(plain(about)).items()})
    if not world().leads:
        return Replica()
    kind = RunFolder if world().alone else LeadingFolder
    return kind(path, about, resume=resume, label=label, **intervals)
