from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from rlcore.errors import FolderError, UnknownNameError
from rlcore.reporting.compare import compare, load_runs, mean_curve, plot_comparison, print_comparison
from rlcore.reporting.figures import axis_label
from rlcore.reporting.loggers import CsvLogger

TAG = "eval/return"


def write_run(folder: Path, values: list[float], every: int = 10) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"lr": 0.1}))
    logger = CsvLogger(folder / "metrics.csv")
    for k, value in enumerate(values):
        logger.write(k * every, {TAG: value, "train/loss": 0.0}, simulated=0.1 * k * every)
    logger.close()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for seed in range(5):
        write_run(tmp_path / "lqr" / f"q-learning-{seed}-20260101-120000", [0.0, 1.0, 2.0 + seed])
    write_run(tmp_path / "lqr" / "ppo-0", [0.0, 0.5])
    return tmp_path / "lqr"


def test_table(runs: Path) -> None:
    ppo, q = compare(load_runs([runs]), TAG)
    assert (ppo.label, ppo.seeds, ppo.mean, ppo.steps) == ("ppo", 1, 0.5, 10.0)
    assert (q.label, q.seeds, q.mean, q.iqm, q.steps, q.simulated) == ("q-learning", 5, 4.0, 4.0, 20.0, 2.0)
    assert q.low < 4.0 < q.high
    stream = io.StringIO()
    print_comparison([ppo, q], TAG, stream)
    assert "one seed" in stream.getvalue().splitlines()[1]
    with pytest.raises(UnknownNameError, match="did you mean 'eval/return'"):
        compare(load_runs([runs]), "eval/retrun")


def test_folders_given_twice_count_once_and_equal_labels_name_their_parent(runs: Path) -> None:
    assert len(load_runs([runs, runs / "ppo-0"])) == 6
    write_run(runs.parent / "pendulum" / "ppo-0", [1.0])
    write_run(runs.parent / "pendulum" / "seed-3", [1.0])
    labels = {run.label for run in load_runs([runs.parent])}
    assert labels == {"q-learning", "lqr/ppo", "pendulum/ppo", "pendulum"}


def test_parts_of_a_run_are_grouped_over_its_seed_folders(tmp_path: Path) -> None:
    for launch in ("quick-20260101-120000", "quick-20260102-120000"):
        for seed in range(3):
            write_run(tmp_path / launch / f"seed-{seed}" / "ppo", [float(seed)])
            write_run(tmp_path / launch / f"seed-{seed}" / "sac", [float(seed)])
    found = compare(load_runs([tmp_path / "quick-20260101-120000"]), TAG)
    assert [(c.label, c.seeds) for c in found] == [("ppo", 3), ("sac", 3)]
    both = compare(load_runs([tmp_path]), TAG)  # two launches are not seeds of each other
    assert (both[0].label, both[0].seeds) == ("quick-20260101-120000/ppo", 3)
    assert len(both) == 4


def test_missing_and_damaged_files_are_refused_in_one_line(runs: Path, tmp_path: Path) -> None:
    run = runs / "ppo-0"

    def refused(match: str) -> None:
        with pytest.raises(FolderError, match=match) as caught:
            load_runs([run])
        assert "\n" not in str(caught.value)

    metrics = (run / "metrics.csv").read_text()
    (run / "metrics.csv").write_text(metrics + "20,2.0,eval/ret")  # torn: still being written
    assert len(load_runs([run])[0].series[TAG].values) == 2
    (run / "metrics.csv").write_text(metrics + "20,2.0,eval/ret\n")
    refused("damaged at line 6")
    (run / "metrics.csv").write_bytes(b"\xff\xfe\x00")
    refused("not text")
    (run / "metrics.csv").write_text("")
    refused("must begin with")
    (run / "config.json").write_text("{")
    refused("not JSON")
    (run / "config.json").unlink()
    refused("config.json")
    (run / "metrics.csv").unlink()
    refused("no run at or below")
    with pytest.raises(FolderError, match="no folder at"):
        load_runs([tmp_path / "nowhere"])


def test_curve_interpolates_where_all_seeds_have_values(tmp_path: Path) -> None:
    write_run(tmp_path / "a-0", [0.0, 1.0, 2.0, 3.0], every=10)
    write_run(tmp_path / "a-1", [1.0, 3.0], every=20)
    curve = mean_curve([run.series[TAG] for run in load_runs([tmp_path])], "steps")
    assert curve.x.tolist() == [0.0, 10.0, 20.0]
    assert curve.mean.tolist() == [0.5, 1.5, 2.5]
    assert bool(np.all(curve.low <= curve.mean))


def test_figure_comes_as_png_pdf_and_csv(runs: Path, tmp_path: Path) -> None:
    plot_comparison(load_runs([runs]), TAG, tmp_path / "out" / "figure.png", optimum=5.0)
    folder = tmp_path / "out"
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "figure.pdf").read_bytes().startswith(b"%PDF")
    with (folder / "figure.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["label"] == "q-learning"
    assert (float(rows[-1]["mean"]), float(rows[-1]["simulated"]), rows[-1]["seeds"]) == (4.0, 2.0, "5")
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="cannot write"):
        plot_comparison(load_runs([runs]), TAG, tmp_path / "file" / "figure.png")


def test_axes_name_tags_in_words_and_keep_units() -> None:
    assert axis_label("eval/mean_wealth") == "mean wealth"
    assert axis_label("simulated") == "simulated time [s]"
    assert axis_label("angular velocity [rad/s]") == "angular velocity [rad/s]"
