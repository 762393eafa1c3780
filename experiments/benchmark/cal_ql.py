"""Cal-QL beside d3rlpy's: the same networks, settings and batches; updates per second, and who arrives in a maze.

d3rlpy is installed beside this package, without what it pins, so that torch and Gymnasium stay as they are:
`pip install --no-deps d3rlpy structlog colorama dataclasses-json marshmallow typing-inspect mypy-extensions h5py gym
gym-notices scikit-learn joblib threadpoolctl narwhals tqdm click cloudpickle`. Its pin of Gymnasium 1.0 stands for its
own environments, which are not used here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from rlcore.agents.actor_critic import Cql, CqlConfig, NetworkConfig, SacConfig, cal_ql
from rlcore.data import Transitions
from rlcore.envs.maze import PointMaze, PointMazeConfig
from rlcore.errors import MissingExtraError
from rlcore.experiments import point_maze_data
from rlcore.experiments.benchmark.timing import interleave, table
from rlcore.nn.ensemble import Layers
from rlcore.reporting.evaluation import evaluate
from rlcore.reporting.statistics import mean, stratified_bootstrap
from rlcore.simulation import Feedback
from rlcore.simulation.policy import Policy
from rlcore.training.prepare import with_returns

ENV = PointMazeConfig("medium_far", dt=0.05)
SETTINGS = CqlConfig(
    SacConfig(actor_rate=3e-4, temperature_rate=3e-4, target_rate=0.02, initial_temperature=0.2, target_actions=4),
    weight=1.0,
    actions=4,
)
"""Those of `wsrl_point_maze quick`, with two critics and no layer norm: d3rlpy has it after the activation."""


def data_set(seed: int, rows: int = 50_000) -> Transitions:
    """The medium maze's errands: -1 per step before the goal, with the returns that followed."""
    made = point_maze_data.Config(steps=rows, paths=50, dt=ENV.dt)
    return with_returns(
        point_maze_data.generate("medium", "diverse", made, seed), scale=1.0, bias=-1.0, failure_reward=0.0
    )


def ours(width: int, *, rate: float, seed: int = 0, compiled: bool = False) -> Cql:
    """Our Cal-QL with two critics of two hidden layers."""
    layers = Layers((width, width))
    sac = replace(SETTINGS.sac, networks=NetworkConfig(2, layers, layers), critic_rate=rate, compiled=compiled)
    return cal_ql(PointMaze(ENV).spec, replace(SETTINGS, sac=sac), seed=seed)


class Peer:
    """d3rlpy's Cal-QL with the same settings."""

    def __init__(self, width: int, *, rate: float, seed: int = 0) -> None:
        if find_spec("d3rlpy") is None:
            raise MissingExtraError(
                "Cal-QL's peer is d3rlpy, which is not installed; see `rlcore.experiments.benchmark.cal_ql`"
            )
        import d3rlpy
        from d3rlpy.algos import CalQLConfig
        from d3rlpy.models import VectorEncoderFactory

        spec, sac = PointMaze(ENV).spec, SETTINGS.sac
        d3rlpy.seed(seed)
        layers = VectorEncoderFactory([width, width])
        self.agent = CalQLConfig(
            gamma=math.exp(-spec.discount_rate * spec.dt),
            actor_learning_rate=sac.actor_rate,
            critic_learning_rate=rate,
            temp_learning_rate=sac.temperature_rate,
            alpha_learning_rate=0.0,
            actor_encoder_factory=layers,
            critic_encoder_factory=layers,
            tau=sac.target_rate,
            n_critics=2,
            initial_temperature=sac.initial_temperature,
            alpha_threshold=0.0,
            conservative_weight=SETTINGS.weight,
            n_action_samples=SETTINGS.actions,
            max_q_backup=True,
        ).create(device="cpu")
        self.agent.create_impl((spec.observation_dim,), spec.action_dim)
        self.updates, self.version = 0, d3rlpy.__version__

    def update(self, batch: Transitions) -> None:
        """One update of critics, policy and temperature on our rows and our returns."""
        from d3rlpy.torch_utility import TorchMiniBatch

        def column(x: Tensor) -> Tensor:
            return x.unsqueeze(1)

        rows = TorchMiniBatch(
            batch.obs,
            batch.action,
            column(batch.reward),
            batch.next_obs,
            torch.zeros_like(batch.action),
            column(batch.extras["mc_return"]),
            column((batch.discount == 0.0).to(batch.reward)),
            column(torch.ones_like(batch.reward)),
            "cpu",
        )
        self.agent.impl.update(rows, self.updates)
        self.updates += 1

    @property
    def policy(self) -> Policy:
        """Its deterministic policy."""
        return Feedback(lambda obs: torch.as_tensor(self.agent.predict(obs.numpy())))


def batches(data: Transitions, rows: int, seed: int) -> Callable[[], Transitions]:
    """Rows drawn uniformly, the same ones for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return lambda: data[torch.randint(len(data), (rows,), generator=generator)]


def arrivals(policy: Policy, episodes: int) -> float:
    """Share of episodes that reach the far goal."""
    return float(evaluate(policy, PointMaze(ENV), paths=episodes).totals.mean())


def trained(
    updates: int, seeds: int, *, width: int = 64, rows: int = 128, episodes: int = 100
) -> dict[str, list[float]]:
    """Arrivals of both after as many updates on the same batches, for each seed."""
    found: dict[str, list[float]] = {"rlcore": [], "d3rlpy": []}
    for seed in range(seeds):
        data = data_set(seed)
        mine, peer = ours(width, rate=1e-3, seed=seed, compiled=True), Peer(width, rate=1e-3, seed=seed)
        for update in (mine.update, peer.update):
            draw = batches(data, rows, seed)
            for _ in range(updates):
                update(draw())
        found["rlcore"].append(arrivals(mine, episodes))
        found["d3rlpy"].append(arrivals(peer.policy, episodes))
    return found


def rates(width: int, *, count: int = 5, rounds: int = 15, compiled: bool = True) -> dict[str, list[float]]:
    """Updates per second on 256 rows, drawing them included."""
    data = data_set(0)
    agents: dict[str, Callable[[Transitions], Any]] = {"rlcore Cql": ours(width, rate=3e-4).update}
    if compiled:
        agents["rlcore Cql, compiled"] = ours(width, rate=3e-4, compiled=True).update
    agents["d3rlpy CalQL"] = Peer(width, rate=3e-4).update

    def work(update: Callable[[Transitions], Any], draw: Callable[[], Transitions]) -> Callable[[], int]:
        def updates() -> int:
            for _ in range(count):
                update(draw())
            return count

        return updates

    return interleave({name: work(update, batches(data, 256, 0)) for name, update in agents.items()}, rounds=rounds)


def measure(updates: int = 800, seeds: int = 5) -> list[dict[str, Any]]:
    """Updates per second with two critics of 256 x 256, then arrivals after training; one thread."""
    torch.set_num_threads(1)
    if find_spec("d3rlpy") is None:
        return [{"workload": "rlcore Cql", "note": "d3rlpy, the peer, is not installed: nothing to compare with"}]
    found = table(rates(256), "rlcore Cql, compiled", batch=256, versions=f"d3rlpy {Peer(8, rate=3e-4).version}")
    for name, shares in trained(updates, seeds).items():
        low, high = stratified_bootstrap(shares, mean)
        about = f"{updates} updates, {seeds} seeds"
        found.append({"workload": name, "arrivals": sum(shares) / seeds, "low": low, "high": high, "note": about})
    return found
