"""Sequences and contexts: estimators against enumerated gradients, token policies against tables, duels, controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from scipy.stats import chi2
from torch import Tensor

from rlcore.agents.nash import Iterate, NashMp, SequenceNetwork, TokenTable
from rlcore.agents.nash.estimators import exact_loss, policy_gradient_loss, regression_loss
from rlcore.envs.games.sequences import PreferenceSequences, PreferenceSequencesConfig
from rlcore.envs.games.tables import random_policies, random_tables
from rlcore.experiments.nash_duels import summary
from rlcore.experiments.nash_duels import train as train_agent
from rlcore.experiments.nash_sequences import Config, distances, make_agent
from rlcore.functional.games import SequenceTree
from rlcore.reporting.acceptance import Measurement, at_least, at_most, row
from rlcore.seeding import Streams
from rlcore.simulation import begin, rollout
from rlcore.simulation.policy import Feedback
from rlcore.training import DuelSource
from rlcore.training.recorder import SILENT

SYSTEM, DOUBLE = "nash", torch.float64
BETA, WEIGHT = 0.1, 0.5
TOTAL = BETA + WEIGHT


def random_tokens(tree: SequenceTree, seed: int, spread: float = 1.0) -> Tensor:  # -> [I, V + 1]
    """log-probabilities of the next token, softmax of normals."""
    return random_policies(tree.inner, tree.tokens, seed, spread)


class Step:
    """One proximal step over sequences: a policy, its anchor, opponent and reference, all at random."""

    def __init__(self, tree: SequenceTree, seed: int) -> None:
        self.tree = tree
        self.logits = random_tokens(tree, 4 * seed).requires_grad_()
        anchor, reference, opponent = (random_tokens(tree, 4 * seed + k) for k in (1, 2, 3))
        self.pull_tokens = BETA * reference + WEIGHT * anchor  # [I, V + 1]
        self.pull = BETA * tree.sequences(reference) + WEIGHT * tree.sequences(anchor)  # [N]
        self.table = random_tables(1, tree.count, seed)[0]
        self.payoffs = self.table @ tree.sequences(opponent).exp()
        self.opponent = tree.sequences(opponent)

    @property
    def log_policy(self) -> Tensor:  # [N]
        return self.tree.sequences(torch.log_softmax(self.logits, -1))

    def gradient(self, loss: Tensor) -> Tensor:  # [I (V + 1)]
        return torch.autograd.grad(loss, self.logits, retain_graph=True)[0].flatten()


def along(tree: SequenceTree, tokens: Tensor) -> Tensor:  # [I, V + 1] -> [N, T + 1]
    """What stands at each token of each sequence, the end among them, 0 beyond it."""
    found = tokens.new_zeros(tree.count, tree.length + 1)
    spelled = tree.spelled()
    place = torch.zeros(tree.count, dtype=torch.long)
    alive = torch.ones(tree.count, dtype=torch.bool)
    for k in range(tree.length):
        token = torch.where(spelled[:, k] < 0, tree.letters, spelled[:, k])
        found[:, k] = torch.where(alive, tokens[place.clamp(max=tree.inner - 1), token], 0.0)
        alive = alive & (token < tree.letters)
        place = torch.where(alive, place * tree.letters + 1 + token, place)
    return found


def credit_errors(seed: int) -> tuple[float, float, float]:
    """Relative errors of three ways to credit tokens for the pulls: whole sequence, reward to go, the token's own.

    The gradient of the objective is that of `exact_loss`; 63 sequences, in exact expectation.
    """
    step = Step(SequenceTree(2, 5), seed)
    truth = step.gradient(exact_loss(step.log_policy, step.payoffs, step.pull, TOTAL))
    log_tokens = torch.log_softmax(step.logits, -1)
    grads, own = along(step.tree, log_tokens), along(step.tree, step.pull_tokens - TOTAL * log_tokens).detach()
    to_go = own.flip(-1).cumsum(-1).flip(-1)
    errors = []
    for credit in (own.sum(-1, keepdim=True).expand_as(own), to_go, own):
        pi = step.log_policy.detach().exp().unsqueeze(-1)
        found = step.gradient(-(pi * (step.payoffs.unsqueeze(-1) + credit) * grads).sum())
        errors.append(float((found - truth).norm() / truth.norm()))
    return errors[0], errors[1], errors[2]


@row(SYSTEM, "sequence-credit", "whole log-ratios and reward to go give the gradient, 63 sequences, 10 models", "1e-12")
def sequence_credit() -> Measurement:
    return at_most(max(max(credit_errors(seed)[:2]) for seed in range(10)), 1e-12)


@row(SYSTEM, "control-current-token", "crediting a token its own log-ratio only: least relative error of 10", ">= 5 %")
def control_current_token() -> Measurement:
    return at_least(min(credit_errors(seed)[2] for seed in range(10)), 0.05)


@row(SYSTEM, "estimators-exact", "expected gradients: both samplers' beside the enumerated, 31 sequences", "1e-10")
def estimators_exact() -> Measurement:
    """All pairs of candidates, weighed by their probability; the regression's is 2 (beta + lambda) times as long."""
    worst = 0.0
    for seed in range(5):
        step = Step(SequenceTree(2, 4), seed)
        log_pi, n = step.log_policy, step.tree.count
        truth = step.gradient(exact_loss(log_pi, step.payoffs, step.pull, TOTAL))
        pairs = torch.cartesian_prod(torch.arange(n), torch.arange(n))  # [n^2, 2]
        weight = step.log_policy.detach().exp()[pairs].prod(-1)
        wins = step.payoffs[pairs]
        for loss, length in ((policy_gradient_loss, 1.0), (regression_loss, 2.0 * TOTAL)):
            log_pi = step.log_policy.expand(len(pairs), -1)
            each = torch.func.vmap(
                lambda p, c, w, loss=loss, step=step: loss(p[None], c[None], w[None], step.pull[None], TOTAL)
            )(log_pi, pairs, wins)
            found = step.gradient((weight * each).sum()) / length
            worst = max(worst, float((found - truth).norm() / truth.norm()))
    return at_most(worst, 1e-10)


def standard_errors(loss: Callable[..., Tensor], length: float, seed: int) -> float:
    """How many standard errors the mean of 2e5 duels is away from the enumerated gradient, in the worst place."""
    step, rows, chunk = Step(SequenceTree(2, 3), seed), 200_000, 4000
    truth = step.gradient(exact_loss(step.log_policy, step.payoffs, step.pull, TOTAL))
    generator = torch.Generator().manual_seed(seed)
    pi = step.log_policy.detach().exp()
    y = torch.multinomial(pi, 2 * rows, replacement=True, generator=generator).view(rows, 2)
    other = torch.multinomial(step.opponent.exp(), rows, replacement=True, generator=generator).unsqueeze(1)
    wins = (torch.rand(rows, 2, dtype=DOUBLE, generator=generator) < step.table[y, other]).double()
    parts = []
    for low in range(0, rows, chunk):
        here = slice(low, low + chunk)
        log_pi = step.log_policy.expand(chunk, -1)
        parts.append(step.gradient(loss(log_pi, y[here], wins[here], step.pull.expand(chunk, -1), TOTAL)) / length)
    each = torch.stack(parts)
    return float(((each.mean(0) - truth).abs() / (each.std(0) / len(each) ** 0.5)).max())


@row(SYSTEM, "estimators-sampled", "2e5 duels of 15 sequences: mean gradients, worst coordinate", "<= 4 std. errors")
def estimators_sampled() -> Measurement:
    return at_most(
        max(standard_errors(policy_gradient_loss, 1.0, 0), standard_errors(regression_loss, 2.0 * TOTAL, 1)), 4.0
    )


def solve_in_tokens(scores: TokenTable, objective: Callable[[], Tensor]) -> None:
    """Minimise over the scores of all tokens."""
    solver = torch.optim.LBFGS(scores.parameters(), lr=1.0, max_iter=150, tolerance_grad=1e-9,
                               tolerance_change=0.0, history_size=50, line_search_fn="strong_wolfe")  # fmt: skip

    def closure() -> Tensor:
        solver.zero_grad()
        loss = objective()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]


def apart_from_tables(config: PreferenceSequencesConfig, iterations: int) -> tuple[float, float]:
    """Nash-MP with every proximal step solved in token scores: largest difference to the table's, classes to q*.

    By the regression over all pairs, each as often: the variance of log pi less what the proximal point has.
    """
    env = PreferenceSequences(config, dtype=DOUBLE)
    scores, game = TokenTable(config.contexts, env.tree, DOUBLE), env.game
    network, every = SequenceNetwork(env.tree, scores, env.reference), torch.eye(config.contexts, dtype=DOUBLE)
    at, worst = Iterate(game.log_reference, game.log_reference), 0.0

    def log_pi() -> Tensor:
        ratios: Tensor = network(every)
        return game.log_reference + ratios

    total = config.beta + WEIGHT
    for _ in range(iterations):
        opponent = anchor = log_pi().detach()
        pull = config.beta * game.log_reference + WEIGHT * anchor
        for _ in range(2):  # the half step, and the full one on from its weights
            payoffs = game.payoffs(opponent)
            wanted = (pull + payoffs) / total
            solve_in_tokens(scores, lambda wanted=wanted: (log_pi() - wanted).var(-1).sum())  # type: ignore[misc]
            opponent = log_pi().detach()
        at = NashMp(WEIGHT).step(game, at)
        worst = max(worst, float((opponent - at.log_policy).abs().max()))
    masses = game.preference.reduce(opponent.exp()) - game.preference.reduce(env.log_equilibrium.exp())
    return worst, float(masses.abs().max())


@row(SYSTEM, "sequence-table", "12 iterations in token scores, 31 sequences, 3 contexts: log-probs to tables", "1e-4")
def sequence_table() -> Measurement:
    return at_most(apart_from_tables(PreferenceSequencesConfig(), 12)[0], 1e-4)


@row(SYSTEM, "sequence-classes", "60 iterations with exact gradients: masses of the classes to q*, 3 contexts", "1e-4")
def sequence_classes() -> Measurement:
    return at_most(apart_from_tables(PreferenceSequencesConfig(seed=1), 60)[1], 1e-4)


def after_duels(estimator: str, config: Config, seed: int) -> dict[str, float]:
    """What `nash_sequences` ends with for one estimator and one stream of duels."""
    env = PreferenceSequences(config.env)
    settings = replace(config.agent, estimator=estimator, beta=config.env.beta)  # type: ignore[arg-type]
    agent = make_agent(env, config, settings, seed)
    source = DuelSource(env.judge, agent.opponent, config.rows, contexts=env.config.contexts,
                        generator=Streams(seed)["duels"])  # fmt: skip
    course, last = train_agent(agent, source, config.iterations, 2, lambda: distances(env, agent), SILENT)
    return summary(course) | last


@row(
    SYSTEM,
    "sequence-duels",
    "classes to q* after at most 2e6 duels, beta 0.1, worst of 3 contexts",
    "0.02 TV",
    slow=True,
)
def sequence_duels() -> Measurement:
    found = [after_duels(estimator, Config(), seed=0) for estimator in ("regression", "gradient")]
    most = max(f["duels"] for f in found)
    worst = max(f["eval/worst_class_tv"] for f in found)
    return Measurement("<= 0.02", f"{worst:.4f} after {most:.3g} duels", worst <= 0.02 and most <= 2e6)


@row(SYSTEM, "sequence-generation", "tokens drawn by the environment, chi^2 against enumerated, least of 3", "p > 1e-3")
def sequence_generation() -> Measurement:
    return at_least(min(generation_p_value(seed) for seed in range(3)), 1e-3)


def generation_p_value(seed: int, paths: int = 30_000) -> float:
    """Of the counts of all sequences in one context, written under a policy at random."""
    env = PreferenceSequences(PreferenceSequencesConfig(contexts=1, seed=seed), dtype=DOUBLE)
    tree, tokens = env.tree, random_tokens(env.tree, 50 + seed)
    policy = Feedback(lambda obs: tokens[tree.numbered(obs[:, 1:]).clamp(max=tree.inner - 1)])
    _, after = rollout(env, policy, begin(env, paths, seed=seed), tree.length)
    counts = torch.bincount(after.env.x[:, 1].long(), minlength=tree.count).double()
    expected = paths * tree.sequences(tokens).exp()
    return float(chi2.sf(float(((counts - expected).square() / expected).sum()), tree.count - 1))


@row(SYSTEM, "contextual-exact", "3 prompts of their own: each at its q*, mean and worst gap, exact steps", "1e-7")
def contextual_exact() -> Measurement:
    config = Config(estimators=("exact",), iterations=3000)
    env = PreferenceSequences(config.env, dtype=DOUBLE)
    settings = replace(config.agent, estimator="exact", beta=config.env.beta)
    agent = make_agent(env, config, settings, 0)
    source = DuelSource(env.judge, agent.opponent, 1, contexts=3, generator=Streams(0)["duels"], exact=True)
    agent.learn(source, config.iterations)
    gap = distances(env, agent)["gap"]
    return Measurement(
        "<= 1e-7", f"mean {float(gap.mean()):.1e}, worst {float(gap.max()):.1e}", float(gap.max()) <= 1e-7
    )
