"""The command line: verbs, runs, and every mistake of a user as one line with exit code 2."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import rlcore.reporting.listing as listing
from rlcore import cli
from rlcore.errors import DataWarning

SCRIPT = Path(__file__).with_name("toy_run.py")


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`rlcore run toy` finds the experiment of these tests; the working directory is empty."""
    spec = importlib.util.spec_from_file_location("rlcore.experiments.toy", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "rlcore.experiments.toy", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(listing, "experiments", lambda: {"toy": "A toy."})
    monkeypatch.chdir(tmp_path)


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that a refused command prints."""
    assert cli.main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("rlcore: error: ")
    assert error.count("\n") == 1
    return error


def test_list_imports_no_torch() -> None:
    code = "import sys; from rlcore.cli import main; main(['list']); assert not {'torch', 'numpy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "rlcore/ScalarLqr-v0" in done.stdout
    assert "QLearning" in done.stdout


def test_compare_draws_the_known_optimum_over_the_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "toy", "--out", "r", "--iterations", "40"]) == 0
    capsys.readouterr()
    assert cli.main(["compare", "r", "--out", "f.png", "--optimum", "0.5", "--x", "steps"]) == 0
    assert Path("f.png").exists()
    assert ",steps," in Path("f.csv").read_text().split("\n")[0]
    refused(capsys, "compare", "r", "--x", "wall")
    refused(capsys, "compare", "r", "--optimum", "best")


def test_run_then_compare(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "toy", "--seeds", "2", "--out", "r", "--iterations", "40", "--json", "r.json"]) == 0
    out = capsys.readouterr().out
    assert "IQM" in out
    assert "tensorboard --logdir r" in out
    rows = json.loads(Path("r.json").read_text())
    assert [row["seed"] for row in rows] == [0, 1]
    assert rows[0]["result"].keys() == {"train/loss", "eval/return", "weights"}
    config = json.loads(Path("r/config.json").read_text())
    assert config["config"]["iterations"] == 40
    assert config["seeds"] == [0, 1]
    assert cli.main(["compare", "r", "--json", "c.json"]) == 0
    assert json.loads(Path("c.json").read_text())[0]["seeds"] == 2

    before = {path: path.read_bytes() for path in Path("r").rglob("*") if path.is_file()}
    assert cli.main(["run", "--resume", "r/seed-0", "--json", "again.json"]) == 0
    assert "seed 1 is finished" in capsys.readouterr().err
    assert [row["result"] for row in json.loads(Path("again.json").read_text())] == [row["result"] for row in rows]
    assert "agent.lr = 0.01" in refused(capsys, "run", "--resume", "r", "--agent.lr", "0.3")
    assert "preset = 'quick'" in refused(capsys, "run", "toy", "paper", "--resume", "r", "--iterations", "40")
    assert "seeds" in refused(capsys, "run", "--resume", "r", "--seeds", "3")
    assert "not empty" in refused(capsys, "run", "toy", "--out", "r")
    assert before == {path: path.read_bytes() for path in Path("r").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("rum",), "did you mean 'run'?"),
        (("list", "--jsn"), "no option of `rlcore list`"),
        (("verify", "--slw"), "did you mean '--slow'?"),
        (("verify", "martingal"), "did you mean 'martingale'?"),
        (("bench", "no-such-thing"), "no benchmark is called"),
        (("run",), "name one experiment"),
        (("run", "toi"), "did you mean 'toy'?"),
        (("run", "toy", "quik"), "did you mean 'quick'?"),
        (("run", "toy", "--agent.lrr", "1"), "--agent.lr"),
        (("run", "toy", "--iterations", "many"), "iterations"),
        (("run", "toy", "--seeds", "0"), "--seeds >= 1"),
        (("run", "toy", "--seeds", "x"), "--seeds"),
        (("run", "toy", "--device", "cuda:99"), "torch sees"),
        (("run", "toy", "--device", "gpu"), "--device cpu"),
        (("run", "toy", "--out", "file/run"), "not a writable folder"),
        (("run", "toy", "--json", "missing/x.json"), "cannot write"),
        (("run", "--resume", "missing"), "missing"),
        (("run", "toy", "--agent.lr", "nought"), "agent.lr"),
        (("compare", "missing"), "missing"),
        (("compare",), "RUN"),
    ],
)
def test_mistakes_end_in_one_line(capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], message: str) -> None:
    Path("file").write_text("")
    assert message in refused(capsys, *argv)
    assert [path.name for path in Path.cwd().iterdir()] == ["file"]


def test_divergence_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "train/loss became nan at iteration 1" in refused(capsys, "run", "toy", "--out", "r", "--bad")


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    for verb in ("list", "run", "compare", "verify", "bench"):
        assert verb in capsys.readouterr().out or cli.main([]) == 0
    with pytest.raises(SystemExit) as end:
        cli.main(["run", "toy", "--help"])
    assert end.value.code in (0, None)
    assert "--agent.lr" in capsys.readouterr().out


def test_ctrl_c_says_how_to_go_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rlcore.training.callbacks.Evaluate.__call__", stop)
    assert cli.main(["run", "toy", "--out", "r"]) == 130
    assert "continue with: rlcore run --resume r\n" in capsys.readouterr().err


def test_a_warning_about_the_data_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def suspicious(words: object) -> int:
        warnings.warn("heavy tails", DataWarning, stacklevel=2)
        return 0

    monkeypatch.setitem(cli.VERBS, "list", suspicious)
    assert cli.main(["list"]) == 0
    assert capsys.readouterr().err == "rlcore: warning: heavy tails\n"
