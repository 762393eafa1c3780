"""Every experiment runs in small, and returns finite numbers that mean something."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from rlcore.agents.actor_critic import CqlConfig, NetworkConfig, SacConfig
from rlcore.errors import CheckpointError, ConfigError, UnknownNameError
from rlcore.experiments import (
    baseline,
    black_scholes,
    convergence_in_dt,
    deep_control,
    ergodic_lqr,
    integrator_orders,
    irregular_time,
    large_lq,
    mean_variance,
    mstde_failure,
    nash_contextual,
    nash_language,
    nash_matrix,
    nash_sequences,
    pendulum,
    pendulum_hjb,
    preference_losses,
    quadrature_rates,
    time_step_sweep,
    wsrl_ablations,
    wsrl_point_maze,
)
from rlcore.experiments.wsrl_arms import Arm, Beside
from rlcore.nn.ensemble import Layers
from rlcore.training.recorder import RunFolder


def test_ergodic_lqr() -> None:
    found = ergodic_lqr.run(replace(ergodic_lqr.PRESETS["quick"], seconds=20.0, evaluations=2), seed=0)
    assert all(math.isfinite(value) for value in found.values())
    assert found["eval/gap"] < 0.5


def test_pendulum() -> None:
    found = pendulum.run(replace(pendulum.PRESETS["quick"], seconds=2.0, evaluations=1, rows=64), seed=0)
    assert all(math.isfinite(value) for value in found.values())
    assert found["eval/return"] < 0.0 < found["eval/gap"]


@pytest.mark.parametrize("algorithm", ["PPO", "SAC"])
def test_baseline(algorithm: str) -> None:
    config = replace(
        baseline.PRESETS["quick"],
        algorithm=algorithm,
        simulated=80.0,
        updates=5,
        evaluations=1,  # type: ignore[arg-type]
    )
    found = baseline.run(config, seed=0)
    assert math.isfinite(found["eval/return"])


def test_integrator_orders_are_measured_for_every_claim() -> None:
    found = integrator_orders.run(integrator_orders.PRESETS["quick"], seed=0)
    for name, (order, _) in integrator_orders.THEORY.items():
        assert found[f"order/{name}"] == pytest.approx(order, abs=0.1)


SHORT = deep_control.Config(
    paths=4, seconds=1.6, replay=deep_control.Replay(updates=4, rows=32), hidden=(8,), evaluations=1
)


@pytest.mark.parametrize("agent", ["ct-sac", "ct-ddpg", "cppo"])
@pytest.mark.parametrize("task", ["pendulum", "lq"])
def test_deep_control(agent: Any, task: Any) -> None:
    found = deep_control.run(replace(SHORT, agent=agent, task=task), seed=0)
    assert all(math.isfinite(value) for value in found.values())
    assert found["eval/return"] < 0.0
    assert found["eval/score"] < 1.0


TINY = Layers((8,), layer_norm=True)
SOFT = SacConfig(NetworkConfig(critics=3, critic=TINY, actor=TINY))
MAZE = wsrl_point_maze.Config(
    maze="umaze",
    dt=0.1,
    data_steps=500,
    seeds=2,
    offline_updates=2,
    offline=CqlConfig(SOFT, calibrate=True, actions=2),
    online=replace(SOFT, critic_steps=2),
    minibatch=16,
    warm_ups=(0, 5),
    beside=(),
    steps=6,
    early=(2, 4),
    late=3,
    episodes=2,
)


@pytest.mark.parametrize("beside", get_args(Beside))
def test_every_arm_of_fine_tuning_runs(beside: Any) -> None:
    found = wsrl_point_maze.run(replace(MAZE, warm_ups=(), beside=(beside,)), seed=0)
    assert all(math.isfinite(value) for value in found.values())
    assert 0.0 <= found[f"{beside}/lowest"] <= found[f"{beside}/mean"] <= 1.0


def test_every_panel_changes_one_thing() -> None:
    config = wsrl_ablations.Config(MAZE, lengths=(0, 5), warm_up=5)
    usual = wsrl_ablations.Variant(Arm(5), MAZE.offline, MAZE.online)
    for panel in config.panels:
        lines = wsrl_ablations.variants(config, panel)
        assert usual in lines.values()
        assert len(set(lines.values())) == len(lines)
    found = wsrl_ablations.variants(config, "ensemble")
    layers = {label: (v.offline.sac.networks, v.online.networks) for label, v in found.items()}
    assert all(offline == online for offline, online in layers.values())
    assert [n.critics for n, _ in layers.values()] == [3, 2, 3]
    assert [n.critic.layer_norm for n, _ in layers.values()] == [True, True, False]
    one = wsrl_ablations.variants(config, "updates")["1 update"]
    assert (one.online.critic_steps, one.offline) == (1, MAZE.offline)


def test_a_resumed_language_study_keeps_its_curves(tmp_path: Path) -> None:
    supervised = nash_language.Supervised(steps=5, rows=16)
    sizes = {"duels": 16, "iterations": 4, "repeats": 2, "evaluations": 2}
    config = nash_language.Config(arms=("Nash-MP",), supervised=supervised, **sizes)
    with RunFolder(tmp_path / "run", silent=True) as recorder:
        first = nash_language.run(config, 0, recorder)
    figure = tmp_path / "run/figures/nash_language.png"
    figure.unlink()
    with RunFolder(tmp_path / "run", silent=True, resume=True) as recorder:
        assert nash_language.run(config, 0, recorder) == first
    assert figure.exists(), "drawn again from the points in the checkpoints"


EVALUATION: dict[str, tuple[Any, Any]] = {
    "mstde_failure": (mstde_failure, mstde_failure.Config(dts=(0.1, 0.01), steps=(10, 25), paths=2000)),
    "convergence_in_dt": (
        convergence_in_dt,
        convergence_in_dt.Config(dts=(0.1, 0.05), exit_dts=(0.08, 0.04), paths=500),
    ),
    "black_scholes": (black_scholes, black_scholes.Config(dt=0.05, paths=4000, batches=2, gradient_steps=5)),
    "large_lq": (large_lq, large_lq.Config(sizes=(2,), paths=64, iterations=2)),
    "mean_variance": (mean_variance, mean_variance.Config(paths=16, iterations=2, evaluations=1)),
    "nash_contextual": (
        nash_contextual,
        nash_contextual.Config(rows=16, iterations=100, evaluations=3, hidden=(8,)),
    ),
    "nash_sequences": (
        nash_sequences,
        nash_sequences.Config(rows=16, iterations=60, evaluations=3, draws=2, hidden=(8,)),
    ),
    "nash_language": (
        nash_language,
        nash_language.Config(
            supervised=nash_language.Supervised(steps=5, rows=16), duels=16, iterations=4, repeats=2, evaluations=2
        ),
    ),
    "nash_matrix": (
        nash_matrix,
        nash_matrix.Config(games=2, actions=4, betas=(0.1, 1.0), queries=60, sizes=(3, 5), level=1e-4),
    ),
    "preference_losses": (
        preference_losses,
        preference_losses.Config(outcomes=8, points=5, small=3, pairs=(100, 1000), draws=2),
    ),
    "pendulum_hjb": (
        pendulum_hjb,
        pendulum_hjb.Config(replace(SHORT, dt=0.05), fine_dt=0.05, seconds=2.0, cells=9, reference_cells=121),
    ),
    "time_step_sweep": (
        time_step_sweep,
        time_step_sweep.Config("lq", ("cppo", "sac-fair", "ppo-naive"), dts=(0.1, 0.05), learner=SHORT),
    ),
    "wsrl_point_maze": (wsrl_point_maze, MAZE),
    "wsrl_ablations": (wsrl_ablations, wsrl_ablations.Config(MAZE, panels=("start", "ensemble"), warm_up=5)),
    "irregular_time": (irregular_time, irregular_time.Config(dt=0.02, mean_steps=4, paths=16, seconds=4.0)),
}


def test_a_sweep_is_put_together_from_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []

    def train(name: str, dt: float, *_: Any) -> float:
        trained.append(name)
        return dt * len(name)

    def sweep(folder: str, config: time_step_sweep.Config, *, resume: bool = False) -> dict[str, float]:
        about = {"experiment": "time_step_sweep", "config": config}
        with RunFolder(tmp_path / folder, about, silent=True, resume=resume) as whole, whole.child("seed-0") as part:
            return time_step_sweep.run(config, 0, part)

    monkeypatch.setattr(time_step_sweep, "train", train)
    piece = time_step_sweep.Config(agents=("cppo",), dts=(0.1, 0.05))
    whole = replace(piece, agents=("cppo", "ct-sac"), recorded=(str(tmp_path / "piece"),))
    sweep("piece", piece)
    found = sweep("whole", whole)
    assert trained == ["cppo", "cppo", "ct-sac", "ct-sac"]
    assert found == pytest.approx({f"eval/score/{n}/{dt}": dt * len(n) for n in whole.agents for dt in whole.dts})
    assert sweep("whole", whole, resume=True) == found
    assert len(trained) == 4
    found = sweep("drawn", replace(whole, only_recorded=True))
    assert list(found) == ["eval/score/cppo/0.1", "eval/score/cppo/0.05"]
    with pytest.raises(ConfigError, match="no finished run"):
        sweep("none", replace(whole, only_recorded=True, recorded=(str(tmp_path / "nowhere"),)))
    assert len(trained) == 4
    with pytest.raises(CheckpointError, match=r"learner.paths = 256, this run has 128"):
        sweep("other", replace(whole, learner=replace(whole.learner, paths=128)))


def test_a_sweep_refuses_what_it_cannot_do() -> None:
    settings = time_step_sweep.Config()
    with pytest.raises(UnknownNameError, match="no agent is called 'ct-sacc'; did you mean 'ct-sac'"):
        time_step_sweep.run(replace(settings, agents=("ct-sacc",)), 0)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="no agent is called 'sac'"):
        deep_control.run(replace(settings.learner, agent="sac"), 0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="dts must be positive"):
        time_step_sweep.run(replace(settings, dts=(0.0,)), 0)
    with pytest.raises(ConfigError, match="need an agent"):
        time_step_sweep.run(replace(settings, repeats=0), 0)


@pytest.mark.parametrize("name", sorted(EVALUATION))
def test_an_experiment_draws_and_writes_its_numbers(name: str, tmp_path: Path) -> None:
    experiment, config = EVALUATION[name]
    with RunFolder(tmp_path / "run", {"experiment": name, "seed": 0}, silent=True) as recorder:
        found = experiment.run(config, 0, recorder)
    assert all(math.isfinite(value) for value in found.values())
    for suffix in (".png", ".pdf", ".csv"):
        assert (tmp_path / "run" / "figures" / f"{name}{suffix}").stat().st_size > 100


def test_quadrature_rates(tmp_path: Path) -> None:
    config = replace(quadrature_rates.PRESETS["quick"], nodes=(9, 17, 33, 65), draws=5)
    with RunFolder(tmp_path / "run", {"experiment": "quadrature_rates", "seed": 0}, silent=True) as recorder:
        found = quadrature_rates.run(config, 0, recorder)
    for name, order in quadrature_rates.ORDERS.items():
        assert found[f"eval/slope/smooth/{name}"] == pytest.approx(-order, abs=0.4)
    lines = {path.stem: path.read_text().splitlines() for path in (tmp_path / "run").rglob("quadrature_rates*.csv")}
    assert set(lines) == {"quadrature_rates", "quadrature_rates_uneven_and_worst"}
    assert all(len(rows) > 20 for rows in lines.values())
