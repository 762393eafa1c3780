"""Merging cars by a cloned car-following law, then PPO on the mean speed, its occupancy held or not.

rlcore run orpo_traffic quick
rlcore run orpo_traffic paper
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from rlcore.agents.orpo import PpoConfig, RatioConfig
from rlcore.envs.hacking.traffic import COMMANDS, Traffic, TrafficConfig, idm_policy, mean_over
from rlcore.envs.hacking.traffic_model import CONTROLLED, EMPTY, RAMP, Cars
from rlcore.experiments.hacking_task import Arm, Effort, Task, run_task
from rlcore.simulation import Feedback
from rlcore.simulation.environment import EnvState
from rlcore.training.recorder import SILENT, Recorder

CONSTANTS = (-1.5, 0.5)
WITHIN = 1.4  # [m/s^2] of the reference: inside the box, where a Beta law is finite
LONG = 30.0  # a stop that counts as parking [s]
SCALE = (2.0, 5.0, 20.0, 5.0, 20.0)  # speeds of 30 m/s and gaps of 370 m, to order one where cars queue
LEARNER = PpoConfig(trace_time=33.0, minibatch=2048, epochs=6, rate=1e-3, target_kl=0.05, compiled=True)


@dataclass(frozen=True)
class Unsteady:
    """The car-following law and noise, within [-1.4, 1.4] m/s^2; 0 and noise where there is no car.

    Noise gives the reference an occupancy to be compared with, and every label a finite likelihood.
    """

    spread: float
    """Standard deviation of an acceleration [m/s^2]."""
    noise_dim: int = COMMANDS

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # [B, 50] -> [B, 10]
        there = obs.reshape(-1, COMMANDS, 5).abs().sum(2) > 0.0
        law = torch.where(there, idm_policy().act(obs), 0.0)
        return (law if noise is None else law + self.spread * noise).clamp(-WITHIN, WITHIN)


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    env: TrafficConfig = field(default_factory=TrafficConfig)
    """Who enters."""
    spread: float = 0.15
    """Standard deviation of the reference's accelerations about the car-following law [m/s^2]."""
    r: float | None = 0.995
    """Correlation that is relied on; None takes that of the clone's rewards: 0.4, with which nothing is gained."""
    arms: tuple[Arm, ...] = (Arm(), Arm("none"))
    """Ways to hold the occupancy, each from the clone."""
    effort: Effort = field(default_factory=Effort)
    """How much is gathered and learned."""
    learner: PpoConfig = LEARNER
    """PPO."""
    ratio: RatioConfig = field(default_factory=lambda: RatioConfig(steps=48))
    """How occupancies are compared."""


PRESETS = {
    "quick": Config(effort=Effort(256, 75, 60, 64, 2000, corrections=1, evaluation_paths=64, evaluations=6)),
    "paper": Config(  # noise that lasts for an episode, and returns of whole ones: who stops, stops for long
        spread=1.0,
        r=None,
        effort=Effort(256, 300, 60, 256, 2000, corrections=1, evaluation_paths=64, evaluations=6, hold_time=300.0),
        learner=replace(LEARNER, trace_time=300.0, average_steps=10 * 256 * 300),
    ),
}


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Every arm from the clone.

    Of controlled cars on the ramp: `parked` is the share of time with one at rest, `parked_long` that with one that has
    been for more than 30 s, `parked_cars` how many have, `stop_most` the longest stop of any [s].
    """
    env, stops = Traffic(config.env), Stops()

    def measure(state: EnvState) -> dict[str, Tensor]:
        cars: Cars = env.cars(state)
        rests, stopped = at_rest(cars), stops(state, cars)
        return {
            "parked": rests.any(1),
            "stop": stopped.amax(1),
            "parked_long": (stopped > LONG).any(1),
            "parked_cars": (stopped > LONG).sum(1),
            "speed": mean_over(cars.speed, cars.kind > EMPTY),
        }

    known = {f"constant {a:g}": accelerate(a) for a in CONSTANTS}
    task = Task(
        "orpo_traffic",
        env,
        Unsteady(config.spread),
        known,
        head="beta",
        measure=measure,
        peaks=("stop", "parked_cars"),
        input_scale=SCALE * COMMANDS,
        r=config.r,
        note=f"{config.env.horizon:g} s",
    )
    return run_task(task, config.arms, config.effort, config.learner, config.ratio, seed, recorder)


def at_rest(cars: Cars) -> Tensor:  # -> bool [B, N]
    """Which slots hold a controlled car that stands on the ramp."""
    return (cars.kind == CONTROLLED) & (cars.branch == RAMP) & (cars.position < 0.0) & (cars.speed < 0.1)


class Stops:
    """How long each car of a batch has been at rest, followed from state to state; afresh when time goes back."""

    def __init__(self) -> None:
        self.seconds, self.time = torch.zeros(0, 0), 0.0

    def __call__(self, state: EnvState, cars: Cars) -> Tensor:  # -> [B, N] s, in the order of the slots
        now, rests = float(state.t.amax()), at_rest(cars)
        number = cars.order.long()  # of the ramp's cars from 1 on; those of the highway have 0, and never count
        most = int(number.amax()) + 1
        if now <= self.time or len(self.seconds) != len(rests):
            self.seconds, self.time = torch.zeros(len(rests), most, device=rests.device), now - 1.0
        wider = max(0, most - self.seconds.shape[1])
        before = torch.nn.functional.pad(self.seconds, (0, wider)).gather(1, number)
        lasted = torch.where(rests, before + (now - self.time), 0.0)
        self.seconds = torch.zeros(len(rests), most + wider, device=rests.device).scatter_add(1, number, lasted)
        self.time = now
        return lasted


def accelerate(a: float) -> Feedback:
    """The same acceleration for all controlled cars."""
    return Feedback(lambda obs: torch.full_like(obs[:, :COMMANDS], a))
