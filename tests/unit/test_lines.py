"""Figures of one number against another: every line of a chart can be told from the others."""

from __future__ import annotations

from rlcore.reporting.figures import PALETTE, new_figure
from rlcore.reporting.lines import STROKES, Chart, Line, draw_lines


def test_no_two_lines_look_alike():
    count = len(STROKES) * len(PALETTE)
    lines = [Line(str(k), [1.0, 2.0], [k + 1.0, k + 2.0]) for k in range(count)]
    figure, (axes,) = new_figure(1)
    draw_lines(figure, axes, Chart("", "", "", "", [*lines, Line("theory", [1.0, 2.0], [3.0, 5.0], theory=True)]))
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in axes.get_lines()}
    assert len(looks) == count + 1
    assert [line.get_color() for line in axes.get_lines()[: len(PALETTE)]] == list(PALETTE)
