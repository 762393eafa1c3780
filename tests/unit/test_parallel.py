"""Two processes do what one does: the same rows bit for bit, the same weights to rounding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rlcore.errors import ConfigError
from rlcore.parallel import ALONE, World

SCRIPT = Path(__file__).with_name("two_processes.py")


def environment(rank: int, size: int, seconds: int = 60) -> dict[str, str]:
    told = {"RANK": rank, "WORLD_SIZE": size, "RLCORE_TIMEOUT": seconds, "OMP_NUM_THREADS": 1}
    return os.environ | {name: str(value) for name, value in told.items()}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What one process computes, and what each of two does."""
    return computed(tmp_path_factory.mktemp("parallel"))


def computed(folder: Path, *words: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The results of one process and of two."""

    def begin(rank: int, size: int) -> subprocess.Popen[bytes]:
        files = str(folder / f"meet-{size}"), str(folder / f"of-{size}")
        told = environment(rank, size, 200) | {"TORCHINDUCTOR_CACHE_DIR": str(folder / "code")}
        return subprocess.Popen([sys.executable, str(SCRIPT), *files, *words], env=told)

    processes = [begin(0, 1), begin(0, 2), begin(1, 2)]
    assert [process.wait(240) for process in processes] == [0, 0, 0]
    read = [torch.load(folder / name) for name in ("of-1-0", "of-2-0", "of-2-1")]
    return read[0], read[1:]


@pytest.mark.parametrize("name", ["rows"])
def test_rows_are_those_of_one_process_bit_for_bit(found: Any, name: str) -> None:
    one, two = found
    for piece in ("first", "second"):
        for column, expected in one[name][piece].items():
            assert torch.equal(torch.cat([part[name][piece][column] for part in two], 1), expected)
    for piece in ("paths", "fresh"):
        assert torch.equal(torch.cat([part[name][piece] for part in two], 1), one[name][piece])
    assert one[name]["steps"] == two[0][name]["steps"] == 8 * 24


def check_large_rows(one: dict[str, Any], two: list[dict[str, Any]]) -> None:
    """The 4096 paths of one process are the 2048 of each of two, bit for bit."""
    for name, expected in one["large rows"].items():
        assert expected.shape[:2] == (16, 4096)
        assert torch.equal(torch.cat([part["large rows"][name] for part in two], 1), expected)


def test_half_the_paths_each_are_the_same_paths(found: Any) -> None:
    check_large_rows(*found)


@pytest.mark.slow
def test_half_the_paths_each_are_the_same_paths_in_compiled_graphs(found: Any, tmp_path: Path) -> None:
    one, two = computed(tmp_path, "compiled")
    check_large_rows(one, two)
    for name, eager in found[0]["large rows"].items():
        torch.testing.assert_close(one["large rows"][name], eager, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ppo", "ppo that rests", "orpo", "sac", "q"])
def test_three_updates_are_those_of_one_process(found: Any, name: str) -> None:
    one, two = found
    for expected, first, second in zip(one[name]["weights"], *(part[name]["weights"] for part in two), strict=True):
        assert torch.equal(first, second)
        torch.testing.assert_close(first, expected, rtol=1e-5, atol=1e-6)
    for tag, value in one[name]["metrics"].items():
        if not tag.endswith("_sd"):  # a standard deviation is no mean over shares
            assert two[0][name]["metrics"][tag] == pytest.approx(value, rel=2e-3, abs=1e-5), tag
    assert two[0][name]["metrics"] == two[1][name]["metrics"]


def test_a_run_rests_where_one_process_does(found: Any) -> None:
    one, two = found
    share = one["ppo that rests"]["metrics"]["train/steps_share"]
    assert 0.0 < share < 1.0
    assert share == two[0]["ppo that rests"]["metrics"]["train/steps_share"]


def test_the_average_reward_is_that_of_all_rows(found: Any) -> None:
    one, two = found
    assert float(one["q"]["average"]) != 0.0
    torch.testing.assert_close(two[1]["q"]["average"], one["q"]["average"], rtol=1e-5, atol=1e-7)


def test_each_process_draws_its_share_from_its_own_replay(found: Any) -> None:
    one, two = found
    parts = [part["replay"] for part in two]
    assert [len(x["drawn"]) for x in (one["replay"], *parts)] == [16, 8, 8]
    assert [x["capacity"] for x in (one["replay"], *parts)] == [64, 32, 32]
    assert not torch.equal(parts[0]["drawn"], parts[1]["drawn"])
    assert all(torch.equal(a, b) for a, b in zip(*(x["weights"] for x in parts), strict=True))
    assert one["replay"]["steps"] == parts[0]["steps"] == 96


def test_shares_of_another_number_of_processes_are_shared_out_anew(found: Any) -> None:
    one, two = found
    rows = [part["shares"] for part in two]
    assert one["shares"]["stand"][:, 0].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert torch.equal(torch.cat([x["stand"] for x in rows]), one["shares"]["stand"])
    assert one["shares"]["ring"].tolist() == [10.0, 11.0, 20.0, 21.0, 30.0, 31.0]  # the oldest of each had gone
    assert sorted(torch.cat([x["ring"] for x in rows]).tolist()) == one["shares"]["ring"].tolist()
    for name, column in one["shares"]["chain"].items():
        together = torch.stack([x["chain"][name].unflatten(0, (3, 2)) for x in rows], 1)
        assert torch.equal(together.flatten(0, 2), column)


def test_exchanges(found: Any) -> None:
    one, two = found
    assert all(part["whole"].tolist() == [[False, True], [True, True]] for part in two)
    assert all(part["leader"] == "rank 0" and part["gathered"] == [0, 1] for part in two)
    assert all("rank is 0 in process 0 and 1 in process 1" in part["unequal"] for part in two)
    assert "unequal" not in one


def test_alone_everything_is_the_identity() -> None:
    x = torch.arange(6.0)
    assert ALONE.own(x, 0) is x
    assert ALONE.mean(x) is x
    assert ALONE.whole(x, 0) is x
    assert ALONE.gather("a") == ["a"]
    assert ALONE.mean_of({"a": 1.0}) == {"a": 1.0}


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of the 3 processes, got 256; take 255"):
        World(1, 3).share(256, "the paths of a source")


def test_an_address_that_does_not_answer_is_said_in_one_line() -> None:
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}
    words = [sys.executable, "-m", "rlcore", "run", "ergodic_lq"]
    done = subprocess.run(words, env=environment(1, 2, 2) | address, capture_output=True, text=True, timeout=60)
    line = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2
    assert "process 1 found no group of 2 at 127.0.0.1:9 within 2 s" in line
