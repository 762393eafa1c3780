"""Which divergence holds a proxy best: exact optima in the tomato garden by reference, and learned ones beside.

rlcore run divergence_comparison quick
rlcore run divergence_comparison paper
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from rlcore.checks import check_integer, check_not_negative, check_positive
from rlcore.envs.hacking.tomato import Tomato
from rlcore.envs.hacking.tomato_model import TomatoModel
from rlcore.errors import ConfigError
from rlcore.experiments.hacking_arm import Arm, check_arms
from rlcore.experiments.orpo_tomato import Config as Learning
from rlcore.experiments.orpo_tomato import make_agent, reference, returns
from rlcore.functional.occupancy import (
    Regulariser,
    best_lambda,
    moments,
    policy_of,
    regularised_occupancy,
)
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.training import RolloutSource
from rlcore.training.recorder import SILENT, Recorder

Cell = tuple[float, float]  # true and proxy return of an episode


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    temperatures: tuple[float, ...] = (0.5, 0.25, 0.15, 0.1)
    """tau of the references 0.9 softmax(Q*_true / tau) + 0.1 uniform; 0 stands for uniform actions."""
    kl: tuple[float, ...] = (0.03, 0.06, 0.1, 0.15, 0.3)
    """lambda of KL on occupancies, of which the best true return is told [reward]."""
    ad_kl: tuple[float, ...] = (0.3, 1.0, 2.0, 5.0)
    """lambda of KL on actions, likewise."""
    shares: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 1.0, 1.5, 3.0)
    """Multiples of lambda* for the figure."""
    steps: int = 100
    """Length of an episode."""
    learned: tuple[Arm, ...] = ()
    """Arms that are learned beside, for `learned_temperature`."""
    learned_temperature: float = 0.15
    """tau of the reference of the learned ones."""
    learning: Learning = field(default_factory=lambda: Learning(iterations=60))
    """How those are learned."""


PRESETS = {
    "quick": Config(),
    "paper": Config(
        temperatures=(0.0, 0.5, 0.25, 0.15, 0.1),
        kl=(0.03, 0.06, 0.08, 0.1, 0.12, 0.15, 0.3, 1.0),
        ad_kl=(0.3, 1.0, 2.0, 3.0, 5.0, 10.0),
        shares=(0.03, 0.1, 0.3, 0.5, 0.7, 1.0, 1.5, 3.0, 10.0),
        learned=(Arm(), Arm("maxmin"), Arm("kl", 0.1), Arm("ad_kl", 2.0)),
    ),
}


@dataclass(frozen=True)
class Garden:
    """The exact problem beside one reference."""

    model: TomatoModel
    policy: Tensor  # [S, A]
    steps: int

    def optimum(self, kind: Regulariser, strength: float) -> Cell:
        """Returns of the regularised optimum."""
        base = self.model.problem.occupancy(self.policy)
        mu = regularised_occupancy(self.model.problem, self.model.proxy, base, kind, strength)
        return self.returns(policy_of(mu, self.policy))

    def returns(self, policy: Tensor) -> Cell:
        true, proxy = self.model.problem.episode(policy, self.model.true, self.model.proxy, steps=self.steps)
        return true, proxy

    def best_of(self, kind: Regulariser, strengths: tuple[float, ...]) -> tuple[Cell, float]:
        """The strength with the best true return: what nobody can know, in favour of the rivals."""
        found = [(self.optimum(kind, strength), strength) for strength in strengths]
        return max(found, key=lambda pair: pair[0][0])


def garden(model: TomatoModel, temperature: float, steps: int) -> Garden:
    """The garden with a reference; temperature 0 means uniform actions."""
    uniform = torch.full_like(model.true, 1.0 / model.true.shape[1])
    return Garden(model, model.softened(temperature) if temperature else uniform, steps)


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """The table of exact optima by reference and regulariser, then the learned ones."""
    if not config.temperatures or not config.kl or not config.ad_kl:
        raise ConfigError("need at least one temperature and one strength of each kind")
    for name in ("temperatures", "kl", "ad_kl", "shares"):
        for value in getattr(config, name):
            check_not_negative(name, value)
    check_integer("steps", config.steps)
    check_positive("steps", config.steps)
    check_arms(config.learned)
    model = Tomato().model()
    result: dict[str, float] = {}
    curves: list[Line] = []
    for temperature in config.temperatures:
        here = garden(model, temperature, config.steps)
        found = moments(model.proxy, model.true, model.problem.occupancy(here.policy))
        sd, r = float(found.proxy_sd), float(found.correlation)
        strength = best_lambda(sd, r)
        name = f"tau {temperature:g}" if temperature else "uniform"
        cells: dict[str, Cell] = {
            "reference": here.returns(here.policy),
            "none": here.returns(model.problem.best(model.proxy)),
            "sqrt_chi2": here.optimum("sqrt_chi2", strength),
            "maxmin": here.optimum("maxmin", r),
        }
        (cells["kl"], kl), (cells["ad_kl"], ad_kl) = here.best_of("kl", config.kl), here.best_of("ad_kl", config.ad_kl)
        result |= {f"{name}/r": r, f"{name}/proxy_sd": sd, f"{name}/lambda": strength}
        result |= {f"{name}/kl lambda": kl, f"{name}/ad_kl lambda": ad_kl}
        result |= {f"{name}/{kind}/true": cell[0] for kind, cell in cells.items()}
        result |= {f"{name}/{kind}/proxy": cell[1] for kind, cell in cells.items()}
        truth = [here.optimum("sqrt_chi2", share * strength)[0] for share in config.shares]
        curves.append(Line(name, list(config.shares), truth))
    for arm in config.learned:
        true, proxy = learned(config, arm, seed, recorder)
        result |= {f"learned tau {config.learned_temperature:g}/{arm.name}/true": true}
        result |= {f"learned tau {config.learned_temperature:g}/{arm.name}/proxy": proxy}
    recorder.log(0, result)
    figure = recorder.figure_path("divergence_comparison")
    if figure is not None:
        title, subtitle = "True return of the optimum", "sqrt(chi²) in the tomato garden, exactly, by reference"
        best = model.problem.episode(model.problem.best(model.true), model.true, steps=config.steps)[0]
        chart = Chart(title, subtitle, "strength in units of lambda*", "return", curves, log_y=False, known=best)
        plot_charts([chart], figure)
        write_table(result, figure.with_name("table.csv"))
    return recorder.finish(result)


def learned(config: Config, arm: Arm, seed: int, recorder: Recorder) -> Cell:
    """True and proxy return of one arm after training, in the mean over runs."""
    learning = replace(config.learning, temperature=config.learned_temperature)
    env = Tomato(learning.env)
    agent = make_agent(env, reference(env, learning.temperature), learning, arm, seed)
    paths = learning.paths * learning.runs
    source = RolloutSource(env, paths, learning.env.steps, seed=seed, mode=learning.mode)
    agent.learn(source, learning.iterations)
    true, proxy = returns(env, agent, learning.runs, seed=seed)
    return float(true.mean()), float(proxy.mean())


def write_table(result: dict[str, float], path: object) -> None:
    """The result as rows of reference, regulariser, true and proxy return."""
    with open(str(path), "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["reference", "regulariser", "true", "proxy"])
        for name, value in result.items():
            parts = name.split("/")
            if len(parts) == 3 and parts[2] == "true":
                writer.writerow([*parts[:2], f"{value:.3f}", f"{result[f'{parts[0]}/{parts[1]}/proxy']:.3f}"])
