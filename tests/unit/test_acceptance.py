from __future__ import annotations

import io
import json
import math

import pytest

from rlcore.errors import ConfigError, UnknownNameError
from rlcore.reporting import acceptance
from rlcore.reporting.acceptance import Measurement, at_least, at_most, print_table, row, run_rows, within


@pytest.fixture(autouse=True)
def _own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptance, "ROWS", [])
    row("toy", "holds", "one is one", "exact")(lambda: Measurement(1.0, 1.0, True))
    row("toy", "misses", "two is one", "± 0.5")(lambda: within(2.0, 1.0, 0.5))
    row("toy", "slow", "patience", "none", slow=True)(lambda: at_least(3.0, 2.0))
    row("toy", "raises", "an [error] is a failure", "none")(lambda: at_least(1.0 / 0, 2.0))
    row("toy", "absent", "needs a module", "none", needs="no_such_module")(lambda: at_least(3.0, 2.0))


def test_results_as_json() -> None:
    seen = []
    results = run_rows(acceptance.ROWS, on_row=seen.append)
    assert seen == results
    found = {r["id"]: r for r in json.loads(json.dumps([r.to_json() for r in results], allow_nan=False))}
    keys = {"id", "claim", "expected", "got", "tolerance", "pass", "seconds", "system", "skipped"}
    assert all(set(r) == keys for r in found.values())
    assert [r["pass"] for r in found.values()] == [True, False, False, False, False]
    assert found["holds"]["tolerance"] == "exact"
    assert found["raises"]["got"] == "ZeroDivisionError: float division by zero"
    assert found["slow"]["skipped"] == "slow; add --slow"
    assert found["absent"]["skipped"] == "needs no_such_module"
    assert found["holds"]["skipped"] is None
    assert [r.row.id for r in results if r.failed] == ["misses", "raises"]


def test_slow_rows_run_on_request_and_ids_select() -> None:
    results = run_rows(acceptance.ROWS, ids=["slow", "holds"], slow=True)
    assert [(r.row.id, r.passed) for r in results] == [("holds", True), ("slow", True)]
    with pytest.raises(UnknownNameError, match="did you mean 'holds'"):
        run_rows(acceptance.ROWS, ids=["hold"])


def test_a_row_id_is_taken_once() -> None:
    with pytest.raises(ConfigError, match="already has a row"):
        row("toy", "holds", "again", "exact")(lambda: Measurement(1.0, 1.0, True))
    row("other", "holds", "another system", "exact")(lambda: Measurement(1.0, 1.0, True))


def test_nan_never_passes_and_stays_valid_json() -> None:
    assert not within(math.nan, 0.0, 1.0).passed
    assert not at_least(math.nan, 0.0).passed
    assert not at_most(math.nan, 0.0).passed
    assert at_most(1e-7, 1e-6).passed
    assert within(1.0, 1.0, 0.0).passed
    row("toy", "nan", "nan", "none")(lambda: at_least(math.nan, 0.0))
    assert run_rows(acceptance.ROWS, ids=["nan"])[0].to_json()["got"] == "nan"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_table_is_plain_when_piped_and_ruled_on_a_terminal() -> None:
    results = run_rows(acceptance.ROWS)
    piped, shown = io.StringIO(), Terminal()
    print_table(results, piped)
    print_table(results, shown)
    lines = piped.getvalue().splitlines()
    assert len(lines) == 6
    assert piped.getvalue().isascii() or "±" in piped.getvalue()
    assert lines[1].split() == ["pass", "toy", "holds", "one", "is", "one", "1", "1", "exact", "0.0"]
    assert lines[2].startswith("FAIL")
    assert "\x1b" not in piped.getvalue()
    assert "─" in shown.getvalue() or "━" in shown.getvalue()
