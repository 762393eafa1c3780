"""Minari sets: what is written is read, by us and by Minari; what does not fit or is damaged is refused in one line."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete

from rlcore.data import Transitions, in_order, lengths, summary
from rlcore.errors import ConfigError, DataError, FolderError, MissingExtraError, RlcoreError, UnknownNameError
from rlcore.interop.gymnasium import GymEnv
from rlcore.interop.minari import read_minari
from rlcore.interop.minari_write import About, write_minari
from rlcore.simulation import Feedback, begin, rollout_with_reset

ABOUT = About(dt=0.1, seed=5, algorithm="u = 2 x", description="A toy.", recipe={"gain": 2.0}, reference=(-1.0, 1.0))


@pytest.fixture
def rows(toy) -> Transitions:
    """Some episodes terminate at the wall, some reach the horizon, and the record of each path stops in one."""
    env = toy(wall=0.8, horizon=0.4)
    outward = Feedback(lambda obs: (2.0 * obs).clamp(-1.0, 1.0))
    return in_order(rollout_with_reset(env, outward, begin(env, 5, seed=3), 23)[0])


@pytest.fixture
def minari() -> Any:
    pytest.importorskip("h5py")
    return pytest.importorskip("minari")


def test_rows_in_order(toy, rows):
    assert len(rows) == 5 * 23
    assert sum(lengths(rows)) == len(rows)
    same = (rows.next_obs[:-1] == rows.obs[1:]).all(1)
    assert bool((same | rows.extras["last"][:-1]).all())
    figures = summary(rows)
    assert figures["episodes"] == len(lengths(rows)) == int(rows.extras["last"].sum())
    assert 0.0 < figures["terminated"] < 1.0
    assert figures["return/mean"] * figures["episodes"] == pytest.approx(float(rows.reward.sum()), rel=1e-5)
    with pytest.raises(DataError, match=r"paths \[K, B\]"):
        in_order(rows)
    with pytest.raises(DataError, match="row 0 does not lead to row 1"):
        lengths(rows.replace(obs=rows.obs.roll(1, 0)))
    with pytest.raises(DataError, match="cut without a flag"):
        lengths(rows[:-1] if not rows.extras["last"][-2] else rows[:-2])


@pytest.mark.usefixtures("minari")
class TestRoundTrip:
    """Write, read, recover."""

    @pytest.fixture
    def folder(self, toy, rows, tmp_path) -> Path:
        return write_minari(rows, "toys/toy-v0", ABOUT, env=GymEnv(toy()), root=tmp_path)

    def test_every_array_comes_back(self, toy, rows, folder):
        found = read_minari(folder, discount_rate=0.5, env=GymEnv(toy()))
        for name in ("obs", "action", "reward", "discount", "next_obs", "dt"):
            torch.testing.assert_close(getattr(found, name), getattr(rows, name), rtol=1e-7, atol=0.0)
        assert torch.equal(found.extras["last"], rows.extras["last"])
        assert float(read_minari(folder, discount_rate=0.0, dt=2.0).dt[0]) == 2.0

    def test_a_truncation_bootstraps_and_a_termination_does_not(self, folder, minari):
        found = read_minari(folder, discount_rate=0.5)
        ended = torch.cat([torch.from_numpy(e.terminations) for e in minari.MinariDataset(folder / "data")])
        assert torch.equal(found.discount == 0.0, ended)
        truncated = found.extras["last"] & ~ended
        assert 0 < int(ended.sum()) < int(found.extras["last"].sum())
        assert found.discount[truncated].unique().tolist() == pytest.approx([math.exp(-0.05)])

    def test_minari_reads_it_too(self, rows, folder, minari, monkeypatch):
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder.parents[1]))
        dataset = minari.load_dataset("toys/toy-v0")
        assert (dataset.total_steps, dataset.total_episodes) == (len(rows), len(lengths(rows)))
        assert [len(episode) for episode in dataset] == lengths(rows)
        assert float(minari.get_normalized_score(dataset, np.array([0.0]))[0]) == 0.5
        found = read_minari("toys/toy-v0", discount_rate=0.5)
        assert torch.equal(found.obs, rows.obs)
        assert torch.equal(read_minari(dataset, discount_rate=0.5).obs, rows.obs)
        with pytest.raises(UnknownNameError, match="did you mean 'toys/toy-v0'"):
            read_minari("toys/toys-v0", discount_rate=0.5)

    def test_metadata_say_how_it_was_made(self, folder):
        ours = json.loads((folder / "data" / "metadata.json").read_text())["rlcore"]
        assert (ours["dt"], ours["seed"], ours["recipe"]) == (0.1, 5, {"gain": 2.0})
        assert {"torch", "numpy", "gymnasium", "minari", "rlcore-lab", "python"} <= set(ours["versions"])
        assert len(ours["sha256"]) == 64

    def test_the_same_again_is_left_and_something_else_refused(self, toy, rows, folder, tmp_path):
        assert write_minari(rows, "toys/toy-v0", ABOUT, env=GymEnv(toy()), root=tmp_path) == folder
        other = rows.replace(reward=rows.reward + 1.0)
        with pytest.raises(FolderError, match="holds something else"):
            write_minari(other, "toys/toy-v0", ABOUT, env=GymEnv(toy()), root=tmp_path)

    def test_a_change_on_the_disk_is_noticed(self, folder):
        change(folder, lambda episode: episode["rewards"].__setitem__(0, 7.0))
        with pytest.raises(DataError, match="another SHA-256"):
            read_minari(folder, discount_rate=0.5)

    def test_a_file_cut_short_is_noticed(self, folder):
        path = folder / "data" / "main_data.hdf5"
        path.write_bytes(path.read_bytes()[:3000])
        with pytest.raises(DataError, match=r"cannot be (read|opened)"):
            read_minari(folder, discount_rate=0.5)

    def test_a_full_disk_leaves_nothing_behind(self, toy, rows, tmp_path, minari, monkeypatch):
        def full(self, episodes):
            next(iter(episodes))
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(minari.dataset._storages.hdf5_storage.HDF5Storage, "update_episodes", full)
        with pytest.raises(FolderError, match="No space left on device"):
            write_minari(rows, "toys/full-v0", ABOUT, env=GymEnv(toy()), root=tmp_path)
        assert list((tmp_path / "toys").iterdir()) == []

    def test_part_of_a_set(self, rows, folder, minari):
        dataset = minari.MinariDataset(folder / "data")
        short = dataset.filter_episodes(lambda episode: len(episode) < 4)
        found = read_minari(short, discount_rate=0.5)
        assert lengths(found) == [n for n in lengths(rows) if n < 4]

    def test_flat_spaces_are_asked_for(self, toy, rows, tmp_path):
        env = GymEnv(toy())
        env.observation_space = Dict({"x": Box(-np.inf, np.inf, (2,))})
        with pytest.raises(DataError, match="FlattenObservation"):
            write_minari(rows, "dict-v0", ABOUT, env=env, root=tmp_path)

    def test_actions_on_the_unit_box(self, toy, rows, tmp_path):
        env = GymEnv(toy())
        env.action_space = Box(-2.0, 4.0, (2,), np.float32)
        folder = write_minari(rows, "wide-v0", ABOUT, env=env, root=tmp_path)
        found = read_minari(folder, discount_rate=0.5, unit_actions=True)
        torch.testing.assert_close(found.action, (rows.action - 1.0) / 3.0)
        env.action_space = Box(-np.inf, np.inf, (2,), np.float32)
        folder = write_minari(rows, "endless-v0", ABOUT, env=env, root=tmp_path)
        with pytest.raises(DataError, match="only a bounded action space"):
            read_minari(folder, discount_rate=0.5, unit_actions=True)

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            ({"obs": torch.zeros(115, 3)}, r"obs must be \[N, 2\]"),
            ({"action": torch.full((115, 2), 1.5)}, "actions must lie in"),
            ({"reward": torch.full((115,), float("nan"))}, "reward must be finite"),
        ],
    )
    def test_rows_of_another_environment_are_not_written(self, toy, rows, tmp_path, fault, message):
        with pytest.raises(DataError, match=message):
            write_minari(rows.replace(**fault), "toys/bad-v0", ABOUT, env=GymEnv(toy()), root=tmp_path)
        with pytest.raises(ConfigError, match="name-vN"):
            write_minari(rows, "no version", ABOUT, env=GymEnv(toy()), root=tmp_path)

    @pytest.mark.parametrize(
        ("space", "message"),
        [
            ({"observation_space": Box(-1.0, 1.0, (3,))}, "2 numbers per observation"),
            ({"action_space": Box(-1.0, 1.0, (1,))}, "2 numbers per action"),
            ({"action_space": Box(-0.4, 0.4, (2,))}, "rescale one of them"),
            ({"action_space": Discrete(2)}, "must be a Box"),
        ],
    )
    def test_spaces_that_do_not_fit(self, toy, folder, space, message):
        env = GymEnv(toy())
        vars(env).update(space)
        with pytest.raises(DataError, match=message) as caught:
            read_minari(folder, discount_rate=0.5, env=env)
        assert "\n" not in str(caught.value)


def change(folder: Path, do: Any) -> None:
    """Do something to the second episode on the disk."""
    import h5py

    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        do(file["episode_1"])


def replaced(name: str, value: Any) -> Any:
    def do(episode: Any) -> None:
        del episode[name]
        if value is not None:
            episode[name] = value

    return do


STEPS = 6
FAULTS = {
    "no rewards": (replaced("rewards", None), "rewards.*each needs observations, actions"),
    "no observations": (replaced("observations", None), "observations.*each needs"),
    "a missing row": (replaced("actions", np.zeros((5, 1))), "T steps need T \\+ 1 observations.*5 actions"),
    "no last observation": (replaced("observations", np.zeros((6, 2))), "got 6 observations"),
    "not a number": (replaced("rewards", np.array([0, 0, np.nan, 0, 0, 0])), "reward must be finite.*step 2"),
    "an infinite observation": (replaced("observations", np.full((7, 2), np.inf)), "obs must be finite.*step 0"),
    "outside the box": (replaced("actions", np.full((6, 1), 1.5)), r"actions must lie in.*\[1.5\] at step 0"),
    "cut without a flag": (replaced("truncations", np.zeros(6, bool)), "cut without a flag"),
    "goes on after an end": (replaced("terminations", np.arange(6) == 3), "goes on after an end at step 3"),
}


@pytest.mark.usefixtures("minari")
class TestForeignSets:
    """Sets that Minari wrote, with dictionary observations."""

    def write(self, minari: Any, root: Path, monkeypatch: pytest.MonkeyPatch, **spaces: Any) -> Path:
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
        random = np.random.default_rng(0)
        episodes = [
            minari.data_collector.EpisodeBuffer(
                observations=random.normal(size=(STEPS + 1, 2)),
                actions=random.uniform(-1.0, 1.0, (STEPS, 1)),
                rewards=list(range(STEPS)),
                terminations=[False] * STEPS,
                truncations=[False] * (STEPS - 1) + [True],
            )
            for _ in range(3)
        ]
        box = {"observation_space": Box(-9.0, 9.0, (2,), np.float64), "action_space": Box(-1.0, 1.0, (1,))} | spaces
        minari.create_dataset_from_buffers("foreign/set-v0", episodes, **box)
        return root / "foreign" / "set-v0"

    @pytest.mark.filterwarnings("ignore::UserWarning")
    @pytest.mark.parametrize("fault", FAULTS)
    def test_faults(self, minari, tmp_path, monkeypatch, fault):
        folder = self.write(minari, tmp_path, monkeypatch)
        found = read_minari(folder, discount_rate=0.1, dt=1.0)
        assert found.reward.tolist() == [float(k) for k in range(STEPS)] * 3
        do, message = FAULTS[fault]
        change(folder, do)
        with pytest.raises(DataError, match=f"foreign/set-v0, episode 1.*{message}") as caught:
            read_minari(folder, discount_rate=0.1, dt=1.0)
        assert "\n" not in str(caught.value)
        if fault == "cut without a flag":
            again = read_minari(folder, discount_rate=0.1, dt=1.0, unflagged_is_truncated=True)
            assert again.discount.tolist() == found.discount.tolist()

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_the_length_of_a_step_is_asked_for(self, minari, tmp_path, monkeypatch):
        folder = self.write(minari, tmp_path, monkeypatch)
        with pytest.raises(DataError, match="pass dt"):
            read_minari(folder, discount_rate=0.1)
        for dt in (0.0, math.nan):
            with pytest.raises(ConfigError, match="dt must be positive"):
                read_minari(folder, discount_rate=0.1, dt=dt)

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_discrete_actions_are_refused(self, minari, tmp_path, monkeypatch):
        folder = self.write(minari, tmp_path, monkeypatch, action_space=Discrete(3))
        with pytest.raises(DataError, match="action space must be a Box"):
            read_minari(folder, discount_rate=0.1, dt=1.0)

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_dictionaries_are_flattened_as_gymnasium_does(self, minari, tmp_path, monkeypatch):
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
        parts = {"z": Box(-9.0, 9.0, (2,)), "a": Box(-9.0, 9.0, (3, 1)), "m": Box(-9.0, 9.0, (1,))}
        space, random = Dict(parts), np.random.default_rng(0)
        seen = {key: random.normal(size=(STEPS + 1, *part.shape)).astype(np.float32) for key, part in parts.items()}
        buffer = minari.data_collector.EpisodeBuffer(
            observations=seen,
            actions=np.zeros((STEPS, 1), np.float32),
            rewards=[0.0] * STEPS,
            terminations=[False] * (STEPS - 1) + [True],
            truncations=[False] * STEPS,
        )
        minari.create_dataset_from_buffers(
            "foreign/dict-v0", [buffer], observation_space=space, action_space=Box(-1.0, 1.0, (1,))
        )
        found = read_minari("foreign/dict-v0", discount_rate=0.0, dt=1.0)
        for k in range(STEPS):
            for rows, step in ((found.obs, k), (found.next_obs, k + 1)):
                expected = gymnasium.spaces.flatten(space, {key: values[step] for key, values in seen.items()})
                assert rows[k].tolist() == expected.tolist()
        assert found.discount.tolist() == [1.0] * (STEPS - 1) + [0.0]

    def test_a_folder_that_is_none(self, tmp_path):
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "metadata.json").write_text("{}")
        with pytest.raises(DataError, match="cannot be opened"):
            read_minari(tmp_path, discount_rate=0.1)


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rlcore-lab\[robotics\]'") as caught:
        read_minari("any-v0", discount_rate=0.1)
    assert isinstance(caught.value, RlcoreError)


PROGRAM = """
import socket
def refuse(*_, **__): raise OSError("no network")
socket.socket.connect = socket.create_connection = refuse
from rlcore.experiments import point_maze_data as p
rows = p.generate("medium", "diverse", p.Config(steps=3000, paths=6), seed=4)
from rlcore.interop.minari_episodes import digest
print(digest({name: getattr(rows, name).numpy() for name in ("obs", "action", "reward", "next_obs", "discount")}))
"""


def test_two_processes_make_the_same_set_without_a_network() -> None:
    found = [subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True) for _ in "ab"]
    assert found[0].stdout == found[1].stdout
    assert len(found[0].stdout.strip()) == 64
