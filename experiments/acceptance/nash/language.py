"""Language policies: generation, gradients of whole texts, controls that must fail, and the true gap after training."""

from __future__ import annotations

import math
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from rlcore.agents.nash.language import CallableJudge, NashTrainer, NashTrainerConfig
from rlcore.agents.nash.language.estimators import Credit, text_gradient_loss
from rlcore.data.texts import Completions, Vocabulary, pad_left
from rlcore.envs.language import CountJudge
from rlcore.experiments import nash_language
from rlcore.nn.generation import (
    CausalModel,
    Readout,
    Symbols,
    TokenMixture,
    every_completion,
    generate,
    stepwise_logits,
    text_log_probs,
    token_log_probs,
    token_logits,
)
from rlcore.nn.transformer import Transformer, TransformerConfig
from rlcore.reporting.acceptance import Measurement, at_least, at_most, row
from rlcore.training.trainer import Tick

SYSTEM = "nash"
WORDS = Vocabulary("abc")
SYMBOLS = Symbols(WORDS.pad, WORDS.end)
BETA, WEIGHT, LONGEST = 0.1, 0.5, 3


def policy(seed: int, dtype: torch.dtype = torch.float64, width: int = 16, layers: int = 2) -> Readout:
    """A random transformer whose logits differ."""
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(TransformerConfig(len(WORDS), width, layers, heads=2), generator=generator)
    torch.nn.init.normal_(model.head.weight, std=width**-0.5, generator=generator)
    return Readout(model.to(dtype), barred=(WORDS.pad,))


def prompts() -> tuple[Tensor, Tensor]:
    """Of different lengths."""
    return pad_left([WORDS.encode(text) for text in ("a", "bca", "cc", "abcab")], WORDS.pad)


def cached_apart(model: CausalModel, length: int = 16, seed: int = 0) -> float:
    """Largest difference in log-probability between generation with its memories and one pass over the texts."""
    prompt, mask = prompts()
    uniform = torch.rand(len(prompt), length, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        texts = generate(model, prompt, mask, uniform, length, SYMBOLS)
        forced, stepwise = (f(model, texts).log_softmax(-1)[texts.mask] for f in (token_logits, stepwise_logits))
    said = torch.isfinite(forced)  # barred symbols are minus infinity in both
    return float((stepwise - forced)[said].abs().max())


@row(SYSTEM, "language-memory", "logits of policy and mixture with a memory each against one pass, float32", "1e-5")
def language_memory() -> Measurement:
    single = [policy(k, torch.float32) for k in (0, 1)]
    models: list[CausalModel] = [*single, *(TokenMixture(single[0], single[1], share) for share in (0.125, 0.5, 0.9))]
    return at_most(max(cached_apart(model, seed=seed) for model in models for seed in range(3)), 1e-5)


@row(SYSTEM, "language-memory-hf", "the same with GPT-2 and Llama of Hugging Face", "1e-5", needs="transformers")
def language_memory_hf() -> Measurement:
    from rlcore.experiments.benchmark.nash_language import hugging_face

    worst = 0.0
    for kind in ("gpt2", "llama"):
        pair = [hugging_face(kind, len(WORDS), width=16, layers=2, seed=seed, spread=0.3) for seed in (0, 1)]
        worst = max(worst, cached_apart(pair[0]), cached_apart(TokenMixture(pair[0], pair[1], 0.5)))
    return at_most(worst, 1e-5)


def every_text(length: int) -> Completions:
    """All completions of one prompt."""
    return every_completion(torch.tensor(WORDS.encode("ab")), length, WORDS.letters, SYMBOLS)


@row(SYSTEM, "language-sum", "1 - sum of the probabilities of all 1093 texts of up to 6 letters, float64", "1e-12")
def language_sum() -> Measurement:
    with torch.no_grad():
        return at_most(abs(1.0 - float(text_log_probs(policy(2), every_text(6)).exp().sum())), 1e-12)


@row(SYSTEM, "language-sampling", "chi-square of 2e4 texts of a mixture against the enumeration, least p", "> 1e-3")
def language_sampling() -> Measurement:
    from scipy.stats import chi2

    every, n, least = every_text(3), 20_000, 1.0
    code = torch.tensor([25, 5, 1])
    with torch.no_grad():
        for seed in range(3):
            model = TokenMixture(policy(10 + seed), policy(20 + seed), 0.5)
            expected = n * text_log_probs(model, every).exp()
            uniform = torch.rand(n, 3, generator=torch.Generator().manual_seed(seed))
            prompt, mask = every.prompt[:1].expand(n, -1), every.prompt_mask[:1].expand(n, -1)
            said = (generate(model, prompt, mask, uniform, 3, SYMBOLS).tokens * code).sum(1)
            count = (said.unsqueeze(1) == (every.tokens * code).sum(1)).sum(0)
            least = min(least, float(chi2.sf(float(((count - expected) ** 2 / expected).sum()), len(expected) - 1)))
    return at_least(least, 1e-3)


class Step:
    """One proximal step on all texts of up to 3 letters of two: its objective and its estimators."""

    def __init__(self, seed: int) -> None:
        self.model = policy(seed, width=8, layers=1)
        mu, anchor, rival = (policy(seed + k, width=8, layers=1) for k in (100, 200, 300))
        self.every = every_completion(torch.tensor(WORDS.encode("a")), LONGEST, WORDS.letters[:2], SYMBOLS)
        barred = torch.tensor([WORDS.letters[2]])
        for read in (self.model, mu, anchor, rival):
            read.barred = [WORDS.pad, *barred.tolist()]
        judge = CountJudge(WORDS.letters[0])
        self.judge, self.rival = judge, rival
        with torch.no_grad():
            self.pull = BETA * token_log_probs(mu, self.every) + WEIGHT * token_log_probs(anchor, self.every)
            classes = judge.classes(self.every)
            self.payoffs = judge.table[classes][:, classes] @ text_log_probs(rival, self.every).exp()
            self.chance = text_log_probs(self.model, self.every).exp()
        network = self.model.model
        assert isinstance(network, Transformer)
        self.weights = [network.embedding.weight, network.head.weight]

    def gradient(self, loss: Tensor) -> Tensor:
        """With respect to embeddings and head, in one row."""
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, self.weights)])

    def objective(self) -> Tensor:
        """Gradient of less the objective, by enumeration."""
        log_pi = text_log_probs(self.model, self.every)
        gain = self.payoffs + self.pull.sum(-1) - (BETA + WEIGHT) * log_pi
        return self.gradient(-(log_pi.exp() * gain).sum())

    def expected(self, credit: Credit) -> Tensor:
        """Mean gradient of the estimator over all pairs of candidates."""
        n = len(self.every)
        log_pi = token_log_probs(self.model, self.every)
        total = torch.zeros((), dtype=torch.float64)
        for a in range(n):
            pair = torch.stack([torch.full((n,), a), torch.arange(n)], 1)  # [n, 2]
            for b in range(n):
                one = pair[b : b + 1]
                loss = text_gradient_loss(log_pi[one], self.payoffs[one], self.pull[one], BETA + WEIGHT, credit)
                total = total + self.chance[a] * self.chance[b] * loss
        return self.gradient(total)

    def sampled(self, credit: Credit, rows: int, chunk: int = 2000) -> Tensor:  # -> [chunks, weights]
        """The same from duels that a judge decides by 0 or 1."""
        log_pi, generator, parts = token_log_probs(self.model, self.every), torch.Generator().manual_seed(0), []
        classes = self.judge.classes(self.every)
        table = self.judge.table[classes][:, classes]
        rival = text_log_probs(self.rival, self.every).detach().exp()
        for _ in range(rows // chunk):
            pair = torch.multinomial(self.chance.expand(chunk, -1), 2, replacement=True, generator=generator)
            other = torch.multinomial(rival.expand(chunk, -1), 1, generator=generator)
            wins = torch.rand(chunk, 2, dtype=torch.float64, generator=generator) < table[pair, other]
            loss = text_gradient_loss(log_pi[pair], wins.double(), self.pull[pair], BETA + WEIGHT, credit)
            parts.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, self.weights, retain_graph=True)]))
        return torch.stack(parts)

    def deviation(self, credit: Credit, rows: int) -> float:
        """Largest distance from the enumerated gradient, in standard errors."""
        each, wanted = self.sampled(credit, rows), self.objective()
        error = each.std(0) / math.sqrt(len(each))
        moved = error > 0.0
        return float(((each.mean(0) - wanted).abs()[moved] / error[moved]).max())


@row(SYSTEM, "language-gradient", "mean of both estimators against the gradient of the objective, enumerated", "1e-10")
def language_gradient() -> Measurement:
    step = Step(0)
    wanted = step.objective()
    return at_most(max(float((step.expected(c) - wanted).abs().max()) for c in ("text", "to_go")), 1e-10)


@row(SYSTEM, "language-gradient-sampled", "2e5 texts, hard judge: standard errors from it, worst coordinate", "<= 4")
def language_gradient_sampled() -> Measurement:
    return at_most(max(Step(1).deviation(credit, 100_000) for credit in ("text", "to_go")), 4.0)


@row(SYSTEM, "language-control-token", "control: KL of the current token alone fails both, 1e-10 and 4 errors", "fails")
def language_control_token() -> Measurement:
    step = Step(1)
    wanted = step.objective()
    off = float((step.expected("token") - wanted).norm() / wanted.norm())
    errors = Step(1).deviation("token", 100_000)
    return Measurement("> 0.1 and > 4", f"{off:.3f} and {errors:.1f}", off > 0.1 and errors > 4.0)


@row(SYSTEM, "language-resume", "weights that differ after a stop in a half step and a resume", "0")
def language_resume() -> Measurement:
    """Stopped after 4 of 7 updates, at a checkpoint in the middle of a half step."""

    def stop(tick: Tick) -> None:
        if tick.iteration == 5:
            raise KeyboardInterrupt

    judge = CallableJudge(lambda prompt, first, second: 0.9 if first.count("a") > second.count("a") else 0.3)
    with tempfile.TemporaryDirectory() as folder:
        args = NashTrainerConfig(max_steps=7, half_steps=3, full_steps=2, per_device_train_batch_size=4,
                                 max_new_tokens=4, learning_rate=1e-2, save_steps=2)  # fmt: skip

        def trainer(name: str, stopping: bool = False) -> NashTrainer:
            model = policy(3, torch.float32).model
            assert isinstance(model, Transformer)
            here = replace(args, output_dir=str(Path(folder) / name))
            callbacks = [stop] if stopping else []
            return NashTrainer(model, here, judge=judge, train_dataset=list("abc"), processing_class=WORDS,
                               callbacks=callbacks)  # fmt: skip

        whole = trainer("whole")
        whole.train()
        with suppress(KeyboardInterrupt):
            trainer("part", stopping=True).train()
        again = trainer("part")
        again.train(resume_from_checkpoint=True)
        one, two = whole.agent.state_dict(), again.agent.state_dict()
        return at_most(float(sum(not torch.equal(value, two[name]) for name, value in one.items())), 0.0)


@row(SYSTEM, "language-gap", "Nash-MP on a transformer from duels: true gap of all 364 texts, beta = 0.1", "<= 0.01",
     slow=True)  # fmt: skip
def language_gap() -> Measurement:
    config = replace(nash_language.PRESETS["quick"], arms=("Nash-MP",), repeats=1, evaluations=1)
    found = nash_language.run(config, seed=11)
    return at_most(found["Nash-MP/eval/gap"], 0.01)


@row(SYSTEM, "language-classes", "its classes from q*, total variation, after 768 000 duels", "<= 0.02", slow=True)
def language_classes() -> Measurement:
    config = replace(nash_language.PRESETS["quick"], arms=("Nash-MP",), repeats=1, evaluations=1, iterations=3000)
    return at_most(nash_language.run(config, seed=12)["Nash-MP/eval/class_tv"], 0.02)


@row(SYSTEM, "language-control-mixture", "control: its gap (mixture 1/2, token KL) over that of Nash-MP", ">= 5",
     slow=True)  # fmt: skip
def language_control_mixture() -> Measurement:
    arms = ("Nash-MP", nash_language.CONTROL)
    config = replace(nash_language.PRESETS["quick"], arms=arms, repeats=1, evaluations=1)
    found = nash_language.run(config, seed=13)
    right, wrong = (found[f"{arm}/eval/gap"] for arm in arms)
    return Measurement(">= 5", f"{wrong / right:.1f}, {wrong:.4f} over {right:.4f}", wrong >= 5.0 * right)
