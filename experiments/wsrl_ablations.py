"""What matters on the way online: how long and whose warm-up, what goes over, ensemble, layer norm, updates, learner.

rlcore run wsrl_ablations quick
rlcore run wsrl_ablations paper --study.maze large --panels warm-up start

One panel per question, each changing one thing of WSRL on the data of `wsrl_point_maze`; WSRL itself is in all of them.
All seeds of a variant are one batch. Drawn is the share of episodes that reach the goal, by the deterministic policy.
Source: Zhou et al., ICLR 2025, figures 7 to 12, for the questions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, get_args

from rlcore.agents.actor_critic import CqlConfig, SacConfig
from rlcore.data import Transitions
from rlcore.errors import ConfigError
from rlcore.experiments import wsrl_point_maze
from rlcore.experiments.wsrl_arms import Arm, Giver, arm_called
from rlcore.experiments.wsrl_study import Found, fine_tune, line, pretrain, summary
from rlcore.reporting.lines import Chart, plot_charts
from rlcore.training.recorder import SILENT, Recorder

Panel = Literal["length", "warm-up", "start", "ensemble", "updates", "learner"]


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    study: wsrl_point_maze.Config = field(
        default_factory=lambda: replace(wsrl_point_maze.PRESETS["quick"], early=(200, 1000))
    )
    """Maze, data and agents of WSRL itself; the panels below take the place of its own arms."""
    panels: tuple[Panel, ...] = get_args(Panel)
    """Which questions; all in one figure."""
    lengths: tuple[int, ...] = (0, 1000, 5000, 20_000)
    """K in the first panel, steps per seed."""
    warm_up: int = 5000
    """K in all others."""


PRESETS = {
    "quick": Config(),
    "paper": Config(replace(wsrl_point_maze.PRESETS["paper"], seeds=10)),
}


class Variant(NamedTuple):
    """WSRL or one thing else: the way online and the settings of both agents."""

    arm: Arm
    offline: CqlConfig
    online: SacConfig


QUESTIONS: Mapping[Panel, tuple[str, str]] = {
    "length": ("How long a warm-up", "steps of the frozen policy before the first update"),
    "warm-up": ("Whose warm-up", "who acts in it, for as many steps"),
    "start": ("What goes over", "from the offline agent, with Adam's moments"),
    "ensemble": ("Which critics", "number and layer norm, offline and online"),
    "updates": ("How many updates", "of the critics, per online step"),
    "learner": ("Who goes on", "as many critics and updates; after as long a warm-up unless K = 0"),
}


WITHOUT_ANYTHING = ("Cal-QL", "CQL", "IQL")  # who goes on without data and without a warm-up, the paper's rivals


def variants(config: Config, panel: Panel) -> dict[str, Variant]:
    """The lines of one panel by their labels."""
    study, k = config.study, config.warm_up
    wsrl = Variant(Arm(k), study.offline, study.online)
    if panel == "length":
        return {f"K = {length}": wsrl._replace(arm=Arm(length)) for length in config.lengths}
    if panel == "ensemble":
        own = study.online.networks.critics
        return {
            f"{own} critics": wsrl,
            "2 critics": with_critics(wsrl, critics=2),
            f"{own}, no layer norm": with_critics(wsrl, layer_norm=False),
        }
    if panel == "updates":
        own = study.online.critic_steps
        return {f"{own} updates": wsrl, "1 update": wsrl._replace(online=replace(study.online, critic_steps=1))}
    arms: dict[Panel, tuple[str, ...]] = {
        "warm-up": ("random warm-up",),
        "start": ("policy only", "critics only", "no hand-over"),
        "learner": ("RLPD", "Cal-QL", "Cal-QL with data"),
    }
    if panel not in arms:
        raise ConfigError(f"no panel is called {panel!r}; known: {', '.join(get_args(Panel))}")
    lines = {"WSRL": wsrl} | {name: wsrl._replace(arm=arm_called(name, k)) for name in arms[panel]}
    if panel == "learner":
        lines |= {f"{name}, K = 0": wsrl._replace(arm=arm_called(name, 0)) for name in WITHOUT_ANYTHING}
    return lines


def with_critics(variant: Variant, **changes: bool | int) -> Variant:
    """The variant with another ensemble, `critics` or `layer_norm`, offline and online."""

    def changed(sac: SacConfig) -> SacConfig:
        networks = sac.networks
        if "layer_norm" in changes:
            networks = replace(networks, critic=replace(networks.critic, layer_norm=bool(changes["layer_norm"])))
        return replace(sac, networks=replace(networks, critics=int(changes.get("critics", networks.critics))))

    offline = replace(variant.offline, sac=changed(variant.offline.sac))
    return variant._replace(offline=offline, online=changed(variant.online))


def plain(label: str) -> str:
    """A label as the name of a folder."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def runner(config: Config, seed: int, recorder: Recorder) -> Callable[[str, Variant], Found]:
    """Computes the curves of a variant, once for each; agents are pre-trained once for each of their settings."""
    task = wsrl_point_maze.task_of(config.study, seed)
    pretrained: dict[tuple[CqlConfig, bool], tuple[Giver, Transitions]] = {}
    found: dict[Variant, Found] = {}

    def compute(label: str, variant: Variant) -> Found:
        if variant not in found:
            study = replace(config.study, offline=variant.offline, online=variant.online)
            key = variant.offline, variant.arm.implicit
            if key not in pretrained:
                part = recorder.child(f"offline-{len(pretrained)}")
                pretrained[key] = pretrain(task, study, seed, part, implicit=variant.arm.implicit)
            part = recorder.child(plain(label))
            found[variant] = fine_tune(variant.arm, *pretrained[key], task, study, seed, part)
        return found[variant]

    return compute


def chart(panel: Panel, found: Mapping[str, Found]) -> Chart:
    """One panel."""
    title, subtitle = QUESTIONS[panel]
    lines = [line(label, curves["score"], "score") for label, curves in found.items()]
    x = "online steps after the warm-up, per seed"
    return Chart(title, subtitle, x, "share that arrives", lines, log_x=False, log_y=False)


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Compute every panel, draw them in one figure; returns `wsrl_study.summary` of each line."""
    asked = {panel: variants(config, panel) for panel in config.panels}
    compute = runner(config, seed, recorder)
    found = {
        panel: {label: compute(f"{panel} {label}", variant) for label, variant in lines.items()}
        for panel, lines in asked.items()
    }
    if (path := recorder.figure_path("wsrl_ablations")) is not None:
        plot_charts([chart(panel, lines) for panel, lines in found.items()], path)
    numbers: dict[str, float] = {}
    for panel, lines in found.items():
        numbers |= {f"{panel}/{name}": value for name, value in summary(lines).items()}
    return recorder.finish(numbers)
