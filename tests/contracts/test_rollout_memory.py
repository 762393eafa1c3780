"""A rollout's peak of memory is what its result needs plus a constant, and what does not fit is said before."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rlcore.envs import make
from rlcore.errors import ConfigError
from rlcore.simulation import UniformPolicy, begin, modes, results, rollout, rollout_with_reset

PATHS, STEPS = 4096, 4096
MEASURE = """
import sys, torch
from rlcore.envs import make
from rlcore.simulation import UniformPolicy, begin, rollout, rollout_with_reset

torch.set_num_threads(1)
mode, paths, steps = sys.argv[1], int(sys.argv[3]), int(sys.argv[4])
loop = {"paths": rollout, "reset": rollout_with_reset}[sys.argv[2]]
env, policy = make("rlcore/ScalarLqr-v0"), UniformPolicy(-3.0, 3.0, 1)
start = begin(env, paths, seed=0)
for _ in range(2):
    loop(env, policy, start, 64, mode=mode)  # compiles, and grows what is kept for later

def status(name):
    (line,) = (line for line in open("/proc/self/status") if line.startswith(name))
    return int(line.split()[1]) * 1024

with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak begins anew
before = status("VmRSS")
batch, _ = loop(env, policy, start, steps, mode=mode)
parts = [value for value in vars(batch).values() if isinstance(value, torch.Tensor)] + list(batch.extras.values())
whole = {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in parts}
print(sum(whole.values()), status("VmHWM") - before)
"""
SLOW = pytest.mark.slow


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
@pytest.mark.parametrize("mode", ["eager", pytest.param("compiled", marks=SLOW)])
@pytest.mark.parametrize("loop", ["paths", "reset"])
def test_the_peak_is_the_result_and_a_constant(loop: str, mode: str) -> None:
    command = [sys.executable, "-c", MEASURE, mode, loop, str(PATHS), str(STEPS)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=280).stdout
    result, peak = map(int, output.split()[-2:])
    assert result > 2e8
    assert 0.9 * result < peak < 1.06 * result + 3e7, f"{peak / 1e6:.0f} MB for a result of {result / 1e6:.0f} MB"


@pytest.mark.parametrize(("loop", "floats", "flags"), [(rollout, 0, 1), (rollout_with_reset, 1, 2)])
@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_the_largest_batch_that_fits_is_the_one_that_is_named(
    loop: Callable[..., object], floats: int, flags: int, mode: modes.Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused before anything is allocated or compiled: it would take gigabytes. Extra numbers and flags per step."""
    env, policy, steps = make("rlcore/MatrixLqr-v0"), UniformPolicy(-1.0, 1.0, 1), 10**6
    monkeypatch.setattr(modes, "free_memory", lambda device: 1 << 30)
    with pytest.raises(ConfigError, match="at most") as error:
        loop(env, policy, begin(env, 100, seed=0), steps, mode=mode)
    (most,) = map(int, re.findall(r"at most (\d+) paths", str(error.value)))
    observed = env.spec.observation_dim * (2 if loop is rollout_with_reset else 1)
    per_path = steps * (4 * (observed + env.spec.action_dim + 1 + floats) + flags)
    assert most * per_path <= 1 << 30 < (most + 1) * per_path
    with pytest.raises(ConfigError, match="at most 0 paths"):
        loop(env, policy, begin(env, 100, seed=0), 10**12, mode=mode)


def test_a_recorded_graph_needs_twice_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make("rlcore/ScalarLqr-v0")
    monkeypatch.setattr(modes, "free_memory", lambda device: 1 << 30)
    modes.check_memory(env, 1 << 20, 1, 1 << 10)
    with pytest.raises(ConfigError, match="at most 524288 paths"):
        modes.check_memory(env, 1 << 20, 1, 1 << 10, "graph")


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modes, "GROUP", str(tmp_path))
    monkeypatch.setattr(results, "BLOCKS", [])
    assert modes.free_in_group() == []
    for name, text in (("max", "1000000"), ("current", "700000"), ("stat", "anon 600000\ninactive_file 50000\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert modes.free_in_group() == [350000]
    assert modes.free_memory(make("rlcore/ScalarLqr-v0").device) == 350000
    (tmp_path / "memory.max").write_text("max\n")
    assert modes.free_in_group() == []


def test_idle_results_are_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody holds serves the next result of its size, and is given back before one of another size."""
    monkeypatch.setattr(results, "BLOCKS", [])
    monkeypatch.setattr(modes, "GROUP", str(tmp_path))
    for name, text in (("max", "1000000"), ("current", "1000000"), ("stat", "inactive_file 0\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    cpu, shape = torch.device("cpu"), (results.PAGE, 3)
    first = results.empty(shape, torch.bool, cpu)
    assert modes.free_memory(cpu) == results.idle() == 0
    view, where = first[1:], first.data_ptr()
    del first
    assert results.idle() == 0, "a view still holds it"
    del view
    assert modes.free_memory(cpu) == results.idle() == 3 * results.PAGE
    again = results.empty(shape, torch.bool, cpu)
    assert again.data_ptr() == where
    assert results.idle() == 0
    del again
    other = results.empty((results.PAGE, 2), torch.bool, cpu)
    assert results.idle() == 0, "another size gives it back"
    assert len(results.BLOCKS) == 1
    monkeypatch.setattr(results, "KEPT", 0)
    large = results.empty((results.PAGE,), torch.float64, cpu)
    del large
    assert len(results.BLOCKS) == 1, "what is beyond goes with its tensors"
    assert other.shape == (results.PAGE, 2)
