"""Language policies on a preference without a best text: Nash-MP, its rivals and a biased control, by the true gap.

A tiny transformer learns a grammar; each method then plays duels that a judge of classes decides. The gap is that of
all texts, enumerated.

rlcore run nash_language quick
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor

from rlcore.agents.nash import MixtureOpponent, follow
from rlcore.agents.nash.language import (
    NashLanguage,
    NashLanguageConfig,
    Prompts,
    TextDuels,
    TokenReferee,
    WholeCopies,
    copies_needed,
    enumerated_log_probs,
)
from rlcore.checks import check_integer
from rlcore.data.texts import Completions
from rlcore.envs.language import Grammar, GrammarConfig, LastLetterJudge, class_game
from rlcore.errors import ConfigError, DataError
from rlcore.functional.games import PreferenceGame, equilibrium
from rlcore.nn.generation import Readout, Symbols, every_completion, text_log_probs
from rlcore.nn.transformer import Transformer, TransformerConfig
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.reporting.statistics import summarise
from rlcore.seeding import Streams, derive_seed
from rlcore.training import Phase
from rlcore.training.recorder import SILENT, Recorder


@dataclass(frozen=True)
class Supervised:
    """How the reference learns the grammar."""

    steps: int = 400
    """Updates, with a step size that falls to zero."""
    rows: int = 128
    """Texts per update."""
    learning_rate: float = 6e-3
    """Adam's step size at the beginning."""


GAME = NashLanguageConfig(
    loss="gradient", candidates=4, half_steps=10, full_steps=10, learning_rate=6e-3, decay_steps=100.0
)
CONTROL = "control: mixture 1/2, KL of the current token"
ARMS = {
    "Nash-MP": GAME,
    "Nash-MD, mixture 1/8": replace(GAME, method="nash_md", mixture=0.125),
    "Online IPO": replace(GAME, method="self_play", loss="ipo", candidates=1),
    "Online DPO": replace(GAME, method="self_play", loss="dpo", candidates=1),
    CONTROL: replace(GAME, method="nash_md", mixture=0.5, credit="token"),
}
"""The methods. The control has the opponent and the gradient that TRL's `NashMDTrainer` has by default."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    grammar: GrammarConfig = field(default_factory=lambda: GrammarConfig(seed=5))
    """The language; its letters are the classes of the judge."""
    prompts: str = "c"
    """Letters that texts begin with, each a game of its own."""
    model: TransformerConfig = field(default_factory=lambda: TransformerConfig(width=32, layers=1, heads=2))
    """Sizes of the policy; its vocabulary is that of the grammar."""
    supervised: Supervised = field(default_factory=Supervised)
    """How the reference is made."""
    arms: tuple[str, ...] = tuple(ARMS)
    """Methods, by their names in `ARMS`."""
    beta: float = 0.1
    """Strength of the pull to the reference, in units of the preference."""
    wins: float = 0.9
    """Probability that a class beats the next around the circle."""
    hard: bool = False
    """Whether the judge says 0 or 1 with these probabilities, or the probabilities themselves."""
    duels: int = 256
    """Duels of an update, for every method."""
    iterations: int = 300
    """Updates of each method."""
    repeats: int = 3
    """Runs of each method with other duels, from the same reference."""
    evaluations: int = 20
    """Points of each curve."""


PRESETS = {
    "quick": Config(),
    "paper": Config(
        prompts="abc", model=TransformerConfig(width=64, layers=2, heads=4), supervised=Supervised(steps=1000),
        duels=1024, iterations=3000, repeats=5, evaluations=40,
    ),
}  # fmt: skip


class Language:
    """A grammar, a judge of its texts, all of them, and a reference that has learned it."""

    def __init__(self, config: Config, seed: int) -> None:
        self.config, self.grammar = config, Grammar(config.grammar)
        words = self.grammar.vocabulary
        self.words, self.symbols = words, Symbols(words.pad, words.end)
        self.judge = LastLetterJudge(words.letters, words.end, config.wins)
        self.every = [self.texts(letter) for letter in config.prompts]
        self.reference = self.learn(seed)
        log_mu = [self.log_probs(self.reference, texts) for texts in self.every]
        self.games = [class_game(self.judge, y, mu, config.beta) for y, mu in zip(self.every, log_mu, strict=True)]
        self.classes = [equilibrium(self.small(mu, y)) for mu, y in zip(log_mu, self.every, strict=True)]

    def texts(self, letter: str) -> Completions:
        """All completions of a prompt."""
        prompt = torch.tensor(self.words.encode(letter))
        return every_completion(prompt, self.config.grammar.longest, self.words.letters, self.symbols)

    def small(self, log_mu: Tensor, texts: Completions) -> PreferenceGame:
        """The game of the classes, whose masses are those of the reference."""
        return PreferenceGame.of(self.judge.table, self.config.beta, self.judge.masses(texts, log_mu.exp()))

    def log_probs(self, model: Transformer, texts: Completions) -> Tensor:
        """Normalised, in double precision."""
        with torch.no_grad():
            read = Readout(model, barred=(self.symbols.pad,))
            return torch.log_softmax(text_log_probs(read, texts).double(), -1)

    def learn(self, seed: int) -> Transformer:
        """A transformer after supervised learning of texts that the grammar draws."""
        k, streams = self.config.supervised, Streams(seed)
        model = Transformer(replace(self.config.model, vocabulary=len(self.words)), generator=streams["weights"])
        read, optimizer = Readout(model, barred=(self.symbols.pad,)), torch.optim.Adam(model.parameters())
        for step in range(k.steps):
            for group in optimizer.param_groups:
                group["lr"] = k.learning_rate * (1.0 - step / k.steps)
            prompt = torch.randint(2, len(self.words), (k.rows,), generator=streams["prompts"])
            loss = -text_log_probs(read, self.grammar.sample(prompt, streams["texts"])).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return model

    def excess(self) -> float:
        """KL(grammar | reference) over the entropy, exactly, of the worst prompt."""
        found = []
        for letter, texts in zip(self.config.prompts, self.every, strict=True):
            log_p, log_q = self.grammar.log_probs(texts), self.log_probs(self.reference, texts)
            entropy = float(self.grammar.entropy()[self.words.number[letter] - 2])
            found.append(float((log_p.exp() * (log_p - log_q)).sum()) / entropy)
        return max(found)

    def agent(self, arm: str, seed: int) -> tuple[NashLanguage, TextDuels]:
        """A policy that begins at the reference, and its duels."""
        config = replace(ARMS[arm], beta=self.config.beta, max_new_tokens=self.config.grammar.longest)
        agent = NashLanguage(WholeCopies(deepcopy(self.reference), copies_needed(config)), self.symbols, config)
        streams = Streams(seed)
        referee = TokenReferee(self.judge, streams["coins"] if self.config.hard else None)
        prompts = Prompts([{"prompt": c} for c in self.config.prompts],
                          [self.words.encode(c) for c in self.config.prompts], self.words.pad)  # fmt: skip
        rows = max(1, self.config.duels // config.candidates)
        return agent, TextDuels(prompts, referee, rows, generator=streams["texts"])

    def measure(self, agent: NashLanguage) -> dict[str, float]:
        """The exact gap of all texts, and the total variation of the classes from their equilibrium."""
        log_pi = [enumerated_log_probs(agent, texts) for texts in self.every]
        gaps = [float(game.gap(p)) for game, p in zip(self.games, log_pi, strict=True)]
        apart = [
            0.5 * float((self.judge.masses(y, p.exp()) - q.exp()).abs().sum())
            for y, p, q in zip(self.every, log_pi, self.classes, strict=True)
        ]
        return {"eval/gap": statistics.fmean(gaps), "eval/worst_gap": max(gaps), "eval/class_tv": max(apart)}

    def start_gap(self) -> float:
        """The gap of the reference, the start of all."""
        return statistics.fmean(float(game.gap(game.log_reference)) for game in self.games)

    def mixture_limit(self, share: float) -> float:
        """Where policy gradient against pi^(1 - a) mu^a, of whole texts, comes to rest, on the tables."""
        method, found = MixtureOpponent(share), []
        for game in self.games:
            _, seen = follow(game, method, 4000, lambda at: at.log_policy[None])
            found.append(float(game.gap(seen[-1, 0])))
        return statistics.fmean(found)


Curve = list[tuple[float, float, float]]
"""Duels, gap and class distance."""


class Kept:
    """A curve that a checkpoint holds, so that a resumed run has its earlier points."""

    def __init__(self) -> None:
        self.points: Curve = []

    def state_dict(self) -> dict[str, Curve]:
        return {"points": list(self.points)}

    def load_state_dict(self, state: Mapping[str, Curve]) -> None:
        self.points[:] = [(x, gap, apart) for x, gap, apart in state["points"]]


def check(config: Config) -> None:
    """Raise unless the settings make sense together."""
    check_integer("duels, iterations, repeats, evaluations", config.duels, config.iterations, config.repeats,
                  config.evaluations)  # fmt: skip
    if min(config.duels, config.iterations, config.repeats, config.evaluations) < 1:
        raise ConfigError("need at least one duel, iteration, repeat and evaluation")
    unknown = [arm for arm in config.arms if arm not in ARMS]
    if unknown or not config.arms:
        raise ConfigError(f"no arm is called {unknown[0] if unknown else 'nothing'!r}; known: {', '.join(ARMS)}")
    letters = Grammar(config.grammar).prompts
    if not config.prompts or set(config.prompts) - set(letters):
        raise DataError(f"prompts must be letters of {''.join(letters)!r}, got {config.prompts!r}")


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Every method some times, from one reference."""
    check(config)
    language = Language(config, seed)
    result = {"sft/excess_nll": language.excess(), "start/eval/gap": language.start_gap()}
    curves: dict[str, list[Curve]] = {arm: [] for arm in config.arms}
    for arm in config.arms:
        finals = []
        for repeat in range(config.repeats):
            agent, source = language.agent(arm, derive_seed(seed, f"{repeat}"))
            kept = Kept()
            curves[arm].append(kept.points)

            def measure(
                agent: NashLanguage = agent, source: TextDuels = source, kept: Kept = kept
            ) -> Mapping[str, float]:
                found = language.measure(agent)
                kept.points.append((float(source.steps), found["eval/gap"], found["eval/class_tv"]))
                return found

            phases = [Phase(arm, source, config.iterations, agent.update)]
            every = max(1, config.iterations // config.evaluations)
            name = "".join(c if c.isalnum() else "-" for c in arm)
            child = recorder.child(f"{name}-{repeat}", arm=arm, repeat=repeat)
            found = child.train(
                agent, phases, evaluate=measure, evaluate_every=every, main_metric="eval/gap", keep={"curve": kept}
            )
            child.finish(found)
            finals.append(found)
        for metric in ("eval/gap", "eval/worst_gap", "eval/class_tv"):
            result[f"{arm}/{metric}"] = statistics.fmean(found[metric] for found in finals)
        result[f"{arm}/duels"] = curves[arm][0][-1][0]
    result["limit of a mixture of 1/2/eval/gap"] = language.mixture_limit(0.5)
    figure = recorder.figure_path("nash_language")
    if figure is not None and all(map(even, curves.values())):
        plot_charts(charts(config, curves, result, seed), figure)
    return recorder.finish(result)


def even(repeats: list[Curve]) -> bool:
    """Whether all repeats were measured at the same points, more than one."""
    return all([x for x, *_ in a] == [x for x, *_ in b] for a, b in pairwise(repeats)) and len(repeats[0]) > 1


def charts(config: Config, curves: Mapping[str, list[Curve]], result: Mapping[str, float], seed: int) -> list[Chart]:
    """Gap and class distance against duels, with the interval over repeats."""
    judge = "0 or 1" if config.hard else "probabilities"
    subtitle = f"prompts: {config.prompts}, beta = {config.beta:g}, {config.repeats} runs, judge says {judge}"
    found = []
    for column, title, y in ((1, "True gap of all texts", "gap"), (2, "Classes", "total variation to q*")):
        lines = []
        for arm, repeats in curves.items():
            each = [summarise([run[k][column] for run in repeats]) for k in range(len(repeats[0]))]
            lines.append(Line(arm.partition(", KL")[0], [x for x, *_ in repeats[0]], [s.mean for s in each],
                              [s.low for s in each], [s.high for s in each]))  # fmt: skip
        if column == 1:
            ends = [curves[config.arms[0]][0][0][0], curves[config.arms[0]][0][-1][0]]
            limit = result["limit of a mixture of 1/2/eval/gap"]
            lines.append(Line("limit, mixture 1/2", ends, [limit] * 2, theory=True))
        found.append(Chart(title, f"{subtitle}, seed {seed}", "duels", y, lines, log_x=False))
    return found
