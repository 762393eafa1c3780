"""Data sets and environments: made again bit for bit, without a network, read back whole; mazes as MuJoCo's."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlcore.data import Transitions, lengths
from rlcore.envs.maze import PointMaze, PointMazeConfig, WaypointPolicy, ball, fewest_steps
from rlcore.experiments.point_maze_data import Config, generate, task
from rlcore.interop.gym_source import GymSource
from rlcore.interop.minari import open_minari, read_minari
from rlcore.interop.minari_episodes import digest
from rlcore.interop.minari_write import About, write_minari
from rlcore.reporting.acceptance import Measurement, at_most, row
from rlcore.simulation import EnvState, Feedback, begin, rollout
from rlcore.training.prepare import with_returns

SYSTEM = "wsrl"
SMALL = Config(steps=4000, paths=8)
FIELDS = ("obs", "action", "reward", "discount", "next_obs", "dt")
MUJOCO = {"umaze": "PointMaze_UMaze-v3", "medium": "PointMaze_Medium-v3", "large": "PointMaze_Large-v3"}


def sha256(rows: Transitions) -> str:
    """Of every field and of the ends of episodes."""
    return digest({name: getattr(rows, name).numpy() for name in FIELDS} | {"last": rows.extras["last"].numpy()})


DETERMINISM = """
from rlcore.experiments.acceptance.wsrl.data import SMALL, generate, sha256
print([sha256(generate(maze, kind, SMALL, 7)) for maze in ("umaze", "medium", "large") for kind in SMALL.kinds])
"""


@row(
    SYSTEM,
    "E4",
    "six point-maze sets, made in two processes: SHA-256 of their arrays; another seed differs",
    "identical",
)
def generators_are_deterministic() -> Measurement:
    first, second = (python(DETERMINISM) for _ in "ab")
    other = sha256(generate("umaze", "waypoint", SMALL, 8))
    equal = equal_words(first, second)
    passed = equal == len(set(first.split())) == 6 and other not in first
    return Measurement("6 equal pairs", f"{equal} equal pairs", passed)


def python(program: str) -> str:
    """What a program prints in a process of its own."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def equal_words(first: str, second: str) -> int:
    """How many words of two texts agree, place by place."""
    return sum(a == b for a, b in zip(first.split(), second.split(), strict=True))


RUNNERS = """
from rlcore.experiments.acceptance.wsrl.data import sha256
from rlcore.experiments.locomotion_data import Config, generate
config = Config(kinds=("random",), steps=2000, copies=4)
print([sha256(generate(robot, config, 3).rows["random"]) for robot in config.robots])
"""


@row(
    SYSTEM,
    "E4-mujoco",
    "random sets of HalfCheetah, Hopper and Walker2d, made in two processes: SHA-256 of their arrays",
    "identical",
    needs="mujoco",
)
def runner_sets_are_deterministic() -> Measurement:
    first, second = (python(RUNNERS) for _ in "ab")
    return Measurement("3 equal pairs", f"{equal_words(first, second)} equal pairs", equal_words(first, second) == 3)


NO_NETWORK = """
import socket
def refuse(*_, **__):
    raise OSError("no network")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
from rlcore.agents.actor_critic import SacRedq, cal_ql
from rlcore.envs import make
from rlcore.experiments.point_maze_data import Config, generate
from rlcore.training.prepare import with_returns
from rlcore.simulation import begin, rollout
rows = generate("umaze", "diverse", Config(steps=2000, paths=4), 0)
rows = with_returns(rows, scale=10.0, bias=-5.0, failure_reward=0.0)
env = make("rlcore/PointMaze-v0", maze="umaze_far")
agent = cal_ql(env.spec)
for k in range(3):
    agent.update(rows[256 * k : 256 * (k + 1)])
path, _ = rollout(env, SacRedq.warm_start(agent, env.spec), begin(env, 2, seed=0), 10)
print(path.obs.isfinite().all().item())
"""


@row(SYSTEM, "E5", "sockets blocked: make a set, learn from it, hand over, act", "runs")
def no_network() -> Measurement:
    found = subprocess.run([sys.executable, "-c", NO_NETWORK], capture_output=True, text=True)
    return Measurement("True", found.stdout.strip() or found.stderr.strip()[-200:], found.stdout.strip() == "True")


@row(
    SYSTEM,
    "E6",
    "Minari: write, read, recover the environment, replay every row in it; no jax: largest difference of "
    "arrays, of replayed states [m, m/s]",
    "0; 1e-5",
    needs="minari",
)
def minari_round_trip() -> Measurement:
    worst = replayed = 0.0
    with TemporaryDirectory() as root, patch.dict(sys.modules, {"jax": None}):
        for kind in SMALL.kinds:
            rows = generate("medium", kind, SMALL, 1)
            env = gymnasium.make("rlcore.envs:rlcore/PointMaze-v0", maze=task("medium", kind))
            folder = write_minari(rows, f"medium/{kind}-v0", About(dt=0.01, seed=1), env=env, root=root)
            again = read_minari(folder, discount_rate=1.005, env=env)
            pairs = [(getattr(rows, name), getattr(again, name)) for name in FIELDS]
            worst = max(worst, *(float((a - b).abs().max()) for a, b in pairs))
            worst = max(worst, float((rows.extras["last"] ^ again.extras["last"]).sum()))
            recovered = open_minari(folder).recover_environment().unwrapped.env
            state = EnvState(torch.zeros(len(again), dtype=torch.float64), again.obs)
            after, _ = recovered.transition(state, again.action, torch.zeros(len(again), 0))
            replayed = max(replayed, float((after.x - again.next_obs).abs().max()))
            made_with = json.loads((Path(folder) / "data" / "metadata.json").read_text())["rlcore"]["versions"]
    passed = worst == 0.0 and replayed <= 1e-5 and {"torch", "numpy", "minari", "rlcore-lab"} <= set(made_with)
    return Measurement("0; 0", f"{worst:.1g}; {replayed:.1e}", passed)


def mujoco_maze(maze: str) -> Any:
    """Gymnasium-Robotics' environment."""
    import gymnasium_robotics

    gymnasium.register_envs(gymnasium_robotics)
    return gymnasium.make(MUJOCO[maze], continuing_task=False).unwrapped


@row(
    SYSTEM,
    "maze-motion",
    "point mazes beside MuJoCo's, 3 mazes, 6 episodes of up to 400 forces: largest difference of position and velocity "
    "[m, m/s]; rows with another reward or end",
    "1e-4; 0",
    needs="gymnasium_robotics",
)
def maze_motion() -> Measurement:
    worst, wrong, touched, steps = 0.0, 0, 0, 0
    random = np.random.default_rng(11)
    for maze in MUJOCO:
        theirs, ours = mujoco_maze(maze), PointMaze(PointMazeConfig(maze), dtype=torch.float64)
        for episode in range(6):
            obs, _ = theirs.reset(seed=episode)
            x = torch.tensor([[*obs["observation"], *obs["desired_goal"]]])
            state, force = EnvState(torch.zeros(1, dtype=torch.float64), x), random.uniform(-1.0, 1.0, 2)
            for _ in range(400):
                if random.random() < 0.1:
                    force = random.uniform(-1.3, 1.3, 2)
                obs, paid, ended, _, _ = theirs.step(force)
                state, earned = ours.transition(state, torch.tensor(force)[None], torch.zeros(1, 0))
                over = bool(ours.terminated(state))
                worst = max(worst, float(np.abs(state.x[0, :4].numpy() - obs["observation"]).max()))
                wrong += over != ended or float(earned) + over != paid
                touched += bool((ball.contacts(state.x[:, :2], ours.walls)[1] < ball.MARGIN).any())
                steps += 1
                if ended:
                    break
    return Measurement(
        "0; 0", f"{worst:.1e}; {wrong} ({touched} of {steps} steps at a wall)", worst <= 1e-4 and wrong == 0
    )


@row(
    SYSTEM,
    "maze-controller",
    "waypoint controller, noisy and in a hurry, 1000 starts in each of 6 mazes: failures, steps below the bound",
    "0; 0",
)
def maze_controller() -> Measurement:
    failed = impossible = 0
    over: dict[float | None, list[float]] = {None: [], 0.4: []}
    for maze in ("umaze", "medium", "large", "umaze_far", "medium_far", "large_far"):
        env = PointMaze(PointMazeConfig(maze))
        start = begin(env, 1000, seed=3)
        least = fewest_steps(env, EnvState(start.env.t[:25], start.env.x[:25]))
        for cut, ratios in over.items():
            policy = WaypointPolicy(env, 0.5 if cut is None else 0.0, cut=cut)
            path, _ = rollout(env, policy, start, round(env.spec.horizon / env.spec.dt))
            failed += int((path.reward.sum(0) != 1.0).sum())
            taken = ((~path.terminated).sum(0) + 1)[:25]
            impossible += int((taken < least).sum())
            ratios.append(float((taken / least).mean()))
    spans = ", ".join(f"{min(ratios):.2f} to {max(ratios):.2f}" for ratios in over.values())
    return Measurement("0; 0", f"{failed}; {impossible} (times the bound: {spans})", failed == 0 and impossible == 0)


@row(
    SYSTEM,
    "returns",
    "returns to go of a loaded sparse set, rewards 10 r - 5, all-fail rule, beside plain loops: relative error",
    "1e-5",
)
def returns_of_a_set() -> Measurement:
    rows = generate("medium", "diverse", SMALL, 2)
    got = with_returns(rows, scale=10.0, bias=-5.0, failure_reward=0.0).extras["mc_return"]
    gamma, worst, start = math.exp(-1.005 * 0.01), 0.0, 0
    for steps in lengths(rows):
        reward = [10.0 * r - 5.0 for r in rows.reward[start : start + steps].tolist()]
        expected, ahead = [0.0] * steps, 0.0
        for k in reversed(range(steps)):
            expected[k] = ahead = reward[k] + gamma * ahead
        if all(r == -5.0 for r in reward):
            expected = [-5.0 / (1.0 - gamma)] * steps
        wanted = torch.tensor(expected, dtype=torch.float64)
        worst = max(worst, float(((got[start : start + steps] - wanted) / wanted).abs().max()))
        start += steps
    return at_most(worst, 1e-5)


class Turns(gymnasium.Env[Any, Any]):
    """Episodes of 3, 1 and 2 steps by turns that terminate, are cut, and both; observes and pays what it is."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))
    episode, place = -1, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.place = self.episode + 1, 0
        return np.array([self.episode, 0.0]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place += 1
        kind = self.episode % 3
        over = self.place == (3, 1, 2)[kind]
        reward = 10.0 * self.episode + self.place
        return np.array([self.episode, self.place]), reward, over and kind != 1, over and kind != 0, {}


@row(
    SYSTEM, "gym-modes", "a Gymnasium vector in each autoreset mode: rows that are not its transitions, of 3 x 300", "0"
)
def gymnasium_modes() -> Measurement:
    wrong = total = 0
    for mode in AutoresetMode:
        source = GymSource(
            SyncVectorEnv([Turns] * 5, autoreset_mode=mode), dt=0.1, discount_rate=0.5, seed=0, steps_per_call=60
        )
        rows = source.next(Feedback(lambda obs: obs[:, :1] * 0.0))
        kind = rows.obs[:, 0].long() % 3
        last = rows.next_obs[:, 1] == torch.tensor([3.0, 1.0, 2.0])[kind]
        discount = torch.where(last & (kind != 1), 0.0, math.exp(-0.05))
        right = (rows.next_obs == rows.obs + torch.tensor([0.0, 1.0])).all(1) & (rows.extras["last"] == last)
        right &= (rows.reward == 10.0 * rows.obs[:, 0] + rows.next_obs[:, 1]) & (rows.discount - discount).abs().lt(
            1e-6
        )
        wrong, total = wrong + int((~right).sum()), total + len(rows)
    return Measurement("0", f"{wrong} of {total}", wrong == 0 and total >= 600)
