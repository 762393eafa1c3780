"""Named streams and physical time."""

from __future__ import annotations

import math

import pytest
import torch

from rlcore.errors import ConfigError
from rlcore.seeding import Streams, derive_seed
from rlcore.timegrid import discount, rate_from_gamma, steps_in


def test_derived_seeds_are_fixed_and_apart() -> None:
    assert derive_seed(0, "replay") == derive_seed(0, "replay")
    seeds = {derive_seed(seed, name) for seed in range(20) for name in ("replay", "weights", "1/replay")}
    assert len(seeds) == 60
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_stream_does_not_depend_on_the_others() -> None:
    first, second = Streams(5), Streams(5)
    torch.rand(7, generator=first["weights"])
    assert torch.equal(torch.rand(4, generator=first["replay"]), torch.rand(4, generator=second["replay"]))
    assert not torch.equal(torch.rand(4, generator=Streams(6)["replay"]), torch.rand(4, generator=Streams(5)["replay"]))


def test_streams_go_on_where_they_were_saved() -> None:
    streams, copy = Streams(5), Streams(99)
    torch.rand(7, generator=streams["replay"])
    copy.load_state_dict(streams.state_dict())
    assert torch.equal(torch.rand(4, generator=streams["replay"]), torch.rand(4, generator=copy["replay"]))


def test_discount_is_consistent_in_the_time_step() -> None:
    assert discount(0.3, 0.5) == pytest.approx(math.exp(-0.15), rel=1e-15)
    assert discount(0.3, 0.25) ** 2 == pytest.approx(discount(0.3, 0.5), rel=1e-15)
    assert discount(0.0, 1.0) == 1.0
    assert discount(rate_from_gamma(0.99, 0.05), 0.05) == pytest.approx(0.99, rel=1e-15)
    assert rate_from_gamma(1.0) == 0.0


def test_steps_in_a_duration() -> None:
    assert steps_in(10.0, 0.1) == 100
    assert steps_in(0.3, 0.1) == 3
    with pytest.raises(ConfigError, match="whole number"):
        steps_in(1.0, 0.3)
    with pytest.raises(ConfigError, match="whole number"):
        steps_in(0.1, 1.0)


@pytest.mark.parametrize("bad", [0.0, -0.1, math.nan, math.inf])
def test_impossible_time_steps_are_refused(bad: float) -> None:
    for call in (lambda: discount(0.1, bad), lambda: rate_from_gamma(0.9, bad), lambda: steps_in(1.0, bad)):
        with pytest.raises(ConfigError, match="dt must be positive"):
            call()


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
def test_impossible_rates_are_refused(bad: float) -> None:
    with pytest.raises(ConfigError, match="discount rate"):
        discount(bad, 0.1)


@pytest.mark.parametrize("bad", [0.0, -0.5, 1.1, math.nan])
def test_impossible_gammas_are_refused(bad: float) -> None:
    with pytest.raises(ConfigError, match="gamma"):
        rate_from_gamma(bad)
