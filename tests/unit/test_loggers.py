from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlcore.errors import FolderError
from rlcore.reporting.loggers import (
    LAYOUT,
    ConsoleLogger,
    CsvLogger,
    Fanout,
    Image,
    TensorBoardLogger,
    Text,
    flatten,
    hyperparameter_table,
)

PICTURE = Image(np.full((4, 6, 3), 200, dtype=np.uint8))


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return accumulator


def test_csv_holds_numbers_that_read_back_to_the_same_bits(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path / "metrics.csv")
    values = {"eval/return": 1 / 3, "a,b": float(np.float32(0.1)), "text": Text("x"), "picture": PICTURE}
    logger.write(10, values, simulated=0.1)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()  # before close: every write is flushed
    logger.close()
    assert lines[0] == "step,simulated,tag,value"
    assert lines[1] == f"10,0.1,eval/return,{1 / 3!r}"
    assert lines[2] == f'10,0.1,"a,b",{float(np.float32(0.1))!r}'
    assert len(lines) == 3


def test_csv_resumes_to_the_file_of_an_undisturbed_run(tmp_path: Path) -> None:
    def log(logger: CsvLogger, steps: range) -> None:
        for step in steps:
            logger.write(step, {"x": math.sin(step), "y": math.nan}, simulated=0.5 * step)
        logger.close()

    log(CsvLogger(tmp_path / "whole.csv"), range(9))
    log(CsvLogger(tmp_path / "killed.csv"), range(7))
    with (tmp_path / "killed.csv").open("a") as file:
        file.write("7,3.5,x,0.6")  # torn
    log(CsvLogger(tmp_path / "killed.csv", resume_from_step=4), range(5, 9))
    assert (tmp_path / "killed.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed.csv", "whole.csv"]


def test_csv_drops_a_torn_line_of_a_kept_step(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("step,simulated,tag,value\n1,0.0,x,2.0\n2,0.0,x,3.")
    CsvLogger(tmp_path / "m.csv", resume_from_step=2).close()
    assert (tmp_path / "m.csv").read_text() == "step,simulated,tag,value\n1,0.0,x,2.0\n"


def test_csv_refuses_an_occupied_or_foreign_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    CsvLogger(path).close()
    with pytest.raises(FolderError, match="another run"):
        CsvLogger(path)
    path.write_text("name,age\n")
    with pytest.raises(FolderError, match="must begin with"):
        CsvLogger(path, resume_from_step=3)
    assert path.read_text() == "name,age\n"
    with pytest.raises(FolderError, match="cannot write"):
        CsvLogger(path / "below" / "metrics.csv")


def test_tensorboard_holds_scalars_text_pictures_layout_and_hparams_in_one_run(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    settings = {"agent": {"lr": 1e-3}, "horizon": math.inf, "name": "a|b", "seeds": (1, 2), "on": True}
    logger.write_hparams(settings)
    logger.write(0, hyperparameter_table(settings))
    logger.write(5, {"eval/return": 2.0, "eval/picture": PICTURE}, simulated=0.5)
    logger.close()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []  # add_hparams would open a sub-folder
    read = events(tmp_path)
    assert [(e.step, e.value) for e in read.Scalars("eval/return")] == [(5, 2.0)]
    assert [(e.step, e.value) for e in read.Scalars("time/simulated")] == [(0, 0.0), (5, 0.5)]
    assert (read.Images("eval/picture")[0].width, read.Images("eval/picture")[0].height) == (6, 4)
    text = read.Tensors("hyperparameters/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "|agent.lr|0.001|" in text
    assert "|name|a&#124;b|" in text
    assert set(read.SummaryMetadata("_hparams_/session_start_info").plugin_data.plugin_name.split()) == {"hparams"}
    layout = read.Tensors("custom_scalars__config__")
    assert len(layout) == 1
    assert all(panel.encode() in layout[0].tensor_proto.string_val[0] for panel in LAYOUT)


def test_tensorboard_shows_the_settings_of_all_runs(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, get_experiment, list_session_groups
    from tensorboard.plugins.hparams.backend_context import Context

    for name, settings in {"q": {"lr": 1e-3, "horizon": math.inf}, "ppo": {"gamma": 0.9}}.items():
        logger = TensorBoardLogger(tmp_path / name)
        logger.write_hparams(settings)
        logger.write(5, {"eval/return": 2.0})
        logger.close()
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    runs.Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(runs, str(tmp_path))))
    shown = get_experiment.Handler(RequestContext(), context, "", api_pb2.GetExperimentRequest()).run()
    assert {info.name for info in shown.hparam_infos} == {"lr", "horizon", "gamma"}
    assert "eval/return" in {info.name.tag for info in shown.metric_infos}
    statuses = [api_pb2.STATUS_SUCCESS, api_pb2.STATUS_UNKNOWN]
    wanted = api_pb2.ListSessionGroupsRequest(slice_size=9, allowed_statuses=statuses)
    groups = list_session_groups.Handler(RequestContext(), context, "", wanted).run()
    assert {session.name for group in groups.session_groups for session in group.sessions} == {"q", "ppo"}


def test_tensorboard_resume_hides_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    for purge_step, value in ((None, 1.0), (3, 2.0)):
        logger = TensorBoardLogger(tmp_path, purge_step=purge_step)
        for step in range(purge_step or 0, 5):
            logger.write(step, {"x": value})
        logger.close()
    assert [(e.step, e.value) for e in events(tmp_path).Scalars("x")] == [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2)]


def test_console_and_fanout() -> None:
    stream = io.StringIO()
    both = Fanout([ConsoleLogger(stream), ConsoleLogger(stream)])
    both.write(1000, {"eval/return": -1.23, "note": Text("unseen")}, simulated=12.3)
    both.write(1000, {"note": Text("unseen")})
    both.close()
    assert stream.getvalue() == 2 * "step 1000  12.3 s simulated  eval/return -1.23\n"


def test_fanout_closes_all_even_when_one_fails() -> None:
    closed = []

    class Broken(ConsoleLogger):
        def close(self) -> None:
            closed.append(self)
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        Fanout([Broken(io.StringIO()), Broken(io.StringIO())]).close()
    assert len(closed) == 2


def test_flatten_keeps_only_what_tensorboard_can_show() -> None:
    nested = {"a": {"b": 1, "c": {"d": math.inf}}, "e": None, "f": (1.0, 2.0), "g": True}
    assert flatten(nested) == {"a.b": 1, "a.c.d": "inf", "e": "None", "f": "(1.0, 2.0)", "g": True}
