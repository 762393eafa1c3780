"""The table of `rlcore verify`: rows that measure a claim afresh, by the public API.

>>> @row("foundation", "noise", "the mean of 4096 standard normals is 0", "3 standard errors")
... def noise_mean() -> Measurement:
...     return within(float(torch.randn(4096).mean()), 0.0, 3 / 64)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TextIO

from rlcore.errors import ConfigError, unknown_name
from rlcore.reporting.tables import print_rows


@dataclass(frozen=True)
class Measurement:
    """What a row found."""

    expected: float | str
    got: float | str
    passed: bool
    tolerance: str = ""
    """Empty: the tolerance stated by the row."""


@dataclass(frozen=True)
class Row:
    """One claim and the function that measures it."""

    system: str
    id: str
    claim: str
    tolerance: str
    measure: Callable[[], Measurement]
    slow: bool = False
    needs: str | None = None
    """An importable module, or "cuda": without it the row is skipped."""


@dataclass(frozen=True)
class RowResult:
    """A row after its run. A skipped row has not passed, and has not failed either."""

    row: Row
    expected: float | str | None
    got: float | str | None
    tolerance: str
    passed: bool
    seconds: float
    skipped: str | None = None

    @property
    def failed(self) -> bool:
        return not self.passed and self.skipped is None

    def to_json(self) -> dict[str, str | float | bool | None]:
        """The row as `rlcore verify --json` writes it."""
        return {
            "id": self.row.id,
            "claim": self.row.claim,
            "expected": json_value(self.expected),
            "got": json_value(self.got),
            "tolerance": self.tolerance,
            "pass": self.passed,
            "seconds": round(self.seconds, 3),
            "system": self.row.system,
            "skipped": self.skipped,
        }


def json_value(value: float | str | None) -> float | str | None:
    """JSON has no NaN and no infinity: those become text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


ROWS: list[Row] = []
"""Every row registered so far, in order of registration."""


def row(
    system: str, id: str, claim: str, tolerance: str, *, slow: bool = False, needs: str | None = None
) -> Callable[[Callable[[], Measurement]], Callable[[], Measurement]]:
    """Register a function as the row `id` of `system`."""

    def register(measure: Callable[[], Measurement]) -> Callable[[], Measurement]:
        if any((other.system, other.id) == (system, id) for other in ROWS):
            raise ConfigError(f"system {system!r} already has a row {id!r}; choose another id")
        ROWS.append(Row(system, id, claim, tolerance, measure, slow, needs))
        return measure

    return register


def within(got: float, expected: float, tolerance: float) -> Measurement:
    """Holds when |got - expected| <= tolerance."""
    return Measurement(float(expected), float(got), bool(abs(got - expected) <= tolerance), f"± {tolerance:.4g}")


def at_least(got: float, bound: float) -> Measurement:
    """Holds when got >= bound."""
    return Measurement(f">= {bound:.6g}", float(got), bool(got >= bound))


def at_most(got: float, bound: float) -> Measurement:
    """Holds when got <= bound."""
    return Measurement(f"<= {bound:.6g}", float(got), bool(got <= bound))


def largest_difference(got: Sequence[float], expected: Sequence[float]) -> float:
    """The largest of |a - b|."""
    return max(abs(a - b) for a, b in zip(got, expected, strict=True))


def each_within(got: Sequence[float], expected: Sequence[float], tolerances: Sequence[float]) -> Measurement:
    """Holds when every figure is within its own absolute tolerance."""
    passed = all(abs(g - e) <= t for g, e, t in zip(got, expected, tolerances, strict=True))
    wanted, found = (", ".join(f"{value:.6f}" for value in values) for values in (expected, got))
    return Measurement(wanted, found, passed)


def run_rows(
    rows: Sequence[Row],
    *,
    ids: Iterable[str] | None = None,
    slow: bool = False,
    on_row: Callable[[RowResult], None] | None = None,
) -> list[RowResult]:
    """Measure the rows, or those with the given ids, one after the other; `on_row` sees each result as it comes."""
    if ids is not None:
        wanted, known = list(ids), {row.id for row in rows}
        for name in wanted:
            if name not in known:
                raise unknown_name("row", name, known)
        rows = [row for row in rows if row.id in wanted]
    results = []
    for chosen in rows:
        results.append(run_row(chosen, slow))
        if on_row is not None:
            on_row(results[-1])
    return results


def run_row(row: Row, slow: bool) -> RowResult:
    """Measure one row; an error in it is a failure, not an end."""
    reason = reason_to_skip(row, slow)
    if reason is not None:
        return RowResult(row, None, None, row.tolerance, False, 0.0, reason)
    start = time.perf_counter()
    try:
        found = row.measure()
    except Exception as error:  # whatever went wrong, the other rows go on
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return RowResult(row, None, text, row.tolerance, False, time.perf_counter() - start)
    seconds = time.perf_counter() - start
    return RowResult(row, found.expected, found.got, found.tolerance or row.tolerance, bool(found.passed), seconds)


def reason_to_skip(row: Row, slow: bool) -> str | None:
    """Why a row cannot or need not run now; None if it shall."""
    if row.slow and not slow:
        return "slow; add --slow"
    if row.needs == "cuda":
        import torch

        return None if torch.cuda.is_available() else "needs a GPU"
    if row.needs is not None and find_spec(row.needs) is None:
        return f"needs {row.needs}"
    return None


def print_table(results: Sequence[RowResult], file: TextIO | None = None) -> None:
    """Print the results; one line each when piped."""
    headers = ("", "system", "id", "claim", "expected", "got", "tolerance", "seconds")
    marks = ["skip" if r.skipped is not None else "pass" if r.passed else "FAIL" for r in results]
    rows = []
    for mark, r in zip(marks, results, strict=True):
        measured = (shown(r.expected), r.skipped or shown(r.got), r.tolerance, f"{r.seconds:.1f}")
        rows.append((mark, r.row.system, r.row.id, r.row.claim, *measured))
    colours = {"pass": "green", "FAIL": "bold red", "skip": "dim"}
    print_rows(headers, rows, file, [colours[mark] for mark in marks])


def shown(value: float | str | None) -> str:
    """A number with six digits, a text as it is."""
    return "" if value is None else value if isinstance(value, str) else f"{value:.6g}"
