"""One way to hold an occupancy, trained and drawn: what the garden and the other studies of hacking share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from rlcore.agents.orpo import Certified, Constant, Orpo, RatioConfig, RegularizerConfig
from rlcore.agents.orpo.regularizer import Kind
from rlcore.checks import check_not_negative
from rlcore.errors import ConfigError, unknown_name
from rlcore.functional.occupancy import check_correlation
from rlcore.reporting.lines import Chart, Line
from rlcore.training import Callback, HeldSource, Phase, RolloutSource
from rlcore.training.recorder import Recorder

KEPT = ("eval", "hack", "div", "disc", "reg")  # what of the last figures of a training is told
Point = tuple[float, float, float]  # steps per run, true and proxy return


@dataclass(frozen=True)
class Arm:
    """One way to regularise."""

    kind: Kind = "sqrt_chi2"
    """What is penalised."""
    strength: float | None = None
    """lambda [reward per step]; None takes lambda* (or r, for maxmin)."""

    @property
    def name(self) -> str:
        return self.kind if self.strength is None else f"{self.kind}-{self.strength:g}"

    def regularizer(self, ratio: RatioConfig, r: float | None) -> RegularizerConfig:
        """What it means for ORPO, with the correlation r that is relied on; None measures it on the reference."""
        if self.kind == "none":
            return RegularizerConfig("none", Constant(0.0), r=r, ratio=ratio)
        if self.strength is None:
            return RegularizerConfig(self.kind, Certified(), r=r, ratio=ratio)
        r = self.strength if self.kind == "maxmin" else r
        return RegularizerConfig(self.kind, Constant(self.strength), r=r, ratio=ratio)


def check_arms(arms: Sequence[Arm]) -> None:
    """Arms at the door of an experiment, before anything is gathered or cloned for them."""
    for arm in arms:
        if arm.kind not in get_args(Kind):
            raise unknown_name("way to regularise", str(arm.kind), get_args(Kind))
        if arm.strength is not None:
            check_not_negative(f"strength of {arm.kind}", arm.strength)
            if arm.kind == "maxmin":
                check_correlation(arm.strength)
    names = [arm.name for arm in arms]
    if len(set(names)) < len(names):
        raise ConfigError(f"arms must differ, got {', '.join(names)}; leave out those that are named twice")


def train_arm(
    agent: Orpo,
    source: RolloutSource | HeldSource,
    measure: Callable[[], Mapping[str, float]],
    recorder: Recorder,
    *,
    iterations: int,
    evaluations: int,
    runs: int = 1,
    callbacks: Sequence[Callback] = (),
) -> tuple[dict[str, float], list[Point]]:
    """Train one arm: its last figures and monitors, and its curve; `measure` knows 'true', 'proxy' and what else."""
    curve: list[Point] = []

    def evaluate() -> Mapping[str, float]:
        found = measure()
        curve.append((source.steps / runs, found["true"], found["proxy"]))
        return {f"eval/{name}": value for name, value in found.items()}

    evaluate()
    recorder.hparams({"agent": "orpo", "kind": agent.regularizer.config.kind, "environment": source.env.spec.name})
    found = recorder.train(
        agent,
        [Phase("learn", source, iterations, agent.update)],
        evaluate=evaluate,
        evaluate_every=max(1, iterations // evaluations),
        log_every=max(1, iterations // 100),
        main_metric="eval/true",
        callbacks=callbacks,
    )
    kept = {n: value for n, value in found.items() if n.split("/")[0] in KEPT and math.isfinite(value)}
    return recorder.finish(kept), curve


def charts(curves: Mapping[str, Sequence[Point]], across: Mapping[str, Mapping[str, float]], note: str) -> list[Chart]:
    """True and proxy return against environment steps; `across` has both of what learns nothing, by name."""
    found = []
    for column, name in ((1, "true"), (2, "proxy")):
        lines = [Line(arm, [row[0] for row in c], [row[column] for row in c]) for arm, c in curves.items()]
        ends = [0.0, max(line.x[-1] for line in lines)]
        known = [(label, both[name]) for label, both in across.items() if name in both]
        lines += [Line(label, ends, [value] * 2, theory=True) for label, value in known]
        title = f"{name.capitalize()} return of an episode"
        found.append(Chart(title, note, "steps", "return", lines, log_x=False, log_y=False))
    return found
