"""What preference games and their methods refuse, each in one line that says what to do."""

import math

import pytest
import torch

from rlcore.agents.nash import Comal, Egpo, MixtureOpponent, Mmd, MovingAnchor, NashMd, NashMp, OnlineIpo, solve
from rlcore.envs.games.tables import random_circles, sine_table
from rlcore.errors import ConfigError, NumericsError, RlcoreError, ShapeError
from rlcore.functional.divergence import Alpha
from rlcore.functional.games import (
    ClassPreference,
    LowRankPreference,
    MatrixPreference,
    PreferenceGame,
    equilibrium,
)

TABLE = sine_table(4)
MU = torch.full((4,), 0.25, dtype=torch.float64)


def changed(table: torch.Tensor, i: int, j: int, value: float) -> torch.Tensor:
    out = table.clone()
    out[i, j] = value
    return out


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PreferenceGame.of(changed(TABLE, 1, 3, 0.9), 0.1), r"P \+ P\^T = 1.*actions 1 and 3.*symmetrise"),
        (lambda: PreferenceGame.of(TABLE + 1e-3, 0.1), r"P \+ P\^T = 1"),
        (lambda: PreferenceGame.of(4.0 * (TABLE - 0.5) + 0.5, 0.1), r"probabilities in \[0, 1\]"),
        (lambda: PreferenceGame.of(changed(TABLE, 0, 0, math.nan), 0.1), "must be finite"),
        (lambda: PreferenceGame.of(TABLE[:3], 0.1), r"\[\.\.\., n, n\].*\[3, 4\]"),
        (lambda: PreferenceGame.of(torch.ones(2, 2, dtype=torch.long), 0.1), "floating point"),
        (lambda: PreferenceGame.of(TABLE, 0.1, torch.tensor([0.5, 0.5, 0.0, 0.0]).double()), "full support.*mix"),
        (lambda: PreferenceGame.of(TABLE, 0.1, 2.0 * MU), "sum to 1, got 2"),
        (lambda: PreferenceGame.of(TABLE, 0.1, MU[:3]), r"n = 4.*\[3\]"),
        (lambda: PreferenceGame.of(TABLE, 0.0), "beta must be positive"),
        (lambda: PreferenceGame.of(TABLE, -0.1), "beta must be positive"),
        (lambda: PreferenceGame.of(TABLE, math.nan), "beta must be positive"),
        (lambda: PreferenceGame.of(TABLE, torch.tensor([[0.1], [-1.0]])), "beta must be positive"),
        (lambda: PreferenceGame.of(TABLE, torch.tensor([0.1, 0.2])), r"\[\.\.\., 1\]"),
        (lambda: PreferenceGame.of(TABLE, 0.1, MU.float()), r"float64 like the preferences, got torch\.float32"),
        (lambda: PreferenceGame.of(TABLE.expand(3, 4, 4), 0.1, MU.expand(2, 4)), r"as many games.*\(3,\), \(2,\)"),
        (lambda: PreferenceGame.of(TABLE.expand(3, 4, 4), torch.ones(2, 1)), r"as many games.*\(3,\), \(2,\)"),
        (lambda: LowRankPreference(torch.ones(5, 2), torch.ones(5, 2)), "at most 1/2.*multiply both by 0.3536"),
        (lambda: LowRankPreference(torch.ones(5, 2), torch.ones(5, 3)), "must both be"),
        (lambda: ClassPreference(TABLE, torch.tensor([0, 1, 4])), r"0 \.\. 3, got 0 \.\. 4"),
        (lambda: ClassPreference(TABLE, torch.rand(5)), "whole classes"),
        (lambda: NashMp(0.0), "weight must be positive"),
        (lambda: Egpo(-1.0), "rate must be positive"),
        (lambda: NashMd(0.0), "rate must be positive"),
        (lambda: Mmd(math.inf), "rate must be positive"),
        (lambda: Comal(0), "reset_every must be at least 1"),
        (lambda: OnlineIpo(0.0), "rate must be positive"),
        (lambda: MovingAnchor(0.0), r"averaging must lie in \(0, 1\]"),
        (lambda: MixtureOpponent(1.5), r"mixture must lie in \[0, 1\]"),
        (lambda: Alpha(1.0), "use ReverseKl for 0, ForwardKl for 1"),
        (lambda: solve(PreferenceGame.of(TABLE, 0.1), NashMp(), 0.0), "tolerance must be positive"),
        (lambda: solve(PreferenceGame.of(TABLE, 0.1), NashMp(), every=0), "at least 1"),
    ],
)
def test_refused_in_one_line(make, words) -> None:
    with pytest.raises((ConfigError, ShapeError, NumericsError), match=words) as caught:
        make()
    assert isinstance(caught.value, RlcoreError)
    assert "\n" not in str(caught.value)


def test_single_precision_is_refused_where_it_does_not_suffice() -> None:
    game = PreferenceGame.of(TABLE.float(), 1e-4)
    with pytest.raises(NumericsError, match="use float64 or a larger beta"):
        equilibrium(game)


def test_single_precision_tables_pass() -> None:
    assert MatrixPreference(TABLE.float()).actions == 4
    assert random_circles(10, 2, 0).actions == 10
