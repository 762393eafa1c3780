"""Nash learning with language policies: Nash-MP, Nash-MD and self-play, from texts that a judge compared.

nash_mp     opponent theta_k, then theta_{k+1/2}, both frozen; anchor theta_k; on from the weights of the half step
nash_md     opponent pi^(1 - a) mu^a, token by token; no anchor
self_play   opponent pi; no anchor
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn

from rlcore.agents.nash.estimators import sampled_regression_loss
from rlcore.agents.nash.language.config import NashLanguageConfig, check_language
from rlcore.agents.nash.language.estimators import chi_po_pairs, dpo_loss, pair_loss, text_gradient_loss
from rlcore.data.texts import JudgedTexts, joined
from rlcore.errors import ConfigError, DataError
from rlcore.functional.alignment import f_dpo_logits, saturated_share
from rlcore.functional.divergence import ALL
from rlcore.nn.generation import CausalModel, PartlyMixed, Readout, Symbols, TokenMixture, generate, token_log_probs
from rlcore.training.agent import Agent, Metrics

FROZEN = ("anchor", "rival")
Found = dict[str, Tensor]


class Copies(Protocol):
    """A policy, its reference and frozen copies, by name; a module."""

    def trainable(self) -> list[nn.Parameter]: ...
    def model(self, name: str) -> CausalModel: ...
    def take(self, name: str) -> None: ...


def copies_needed(config: NashLanguageConfig) -> tuple[str, ...]:
    """Names of the frozen copies beside the reference."""
    return FROZEN if config.method == "nash_mp" else ()


class NashLanguage(Agent[JudgedTexts]):
    """A language policy that learns from duels; `copies` is a `WholeCopies` or an `AdapterCopies`."""

    step: Tensor  # updates so far
    outer: Tensor  # proximal steps done

    def __init__(self, copies: Copies, symbols: Symbols, config: NashLanguageConfig) -> None:
        super().__init__()
        check_language(config)
        assert isinstance(copies, nn.Module)
        self.config, self.symbols, self.copies = config, symbols, copies
        without_dropout(copies).eval()
        learning = copies.trainable()
        if not learning:
            raise ConfigError("the policy has no parameter that learns; set requires_grad on what should")
        self.noise_dim = config.max_new_tokens
        self.optimizers = {
            "policy": torch.optim.AdamW(learning, config.learning_rate, weight_decay=config.weight_decay)
        }
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self.register_buffer("outer", torch.zeros((), dtype=torch.long))

    def readout(self, name: str) -> CausalModel:
        """The policy, the reference, the anchor or the rival at the temperature of the game."""
        barred = () if self.symbols.pad == self.symbols.end else (self.symbols.pad,)
        return Readout(self.copies.model(name), self.config.temperature, barred)

    def opponent(self) -> CausalModel:
        """Who candidates are judged against."""
        if self.config.method == "nash_md":
            return TokenMixture(self.readout("policy"), self.readout("reference"), self.config.mixture)
        return self.readout("rival" if self.config.method == "nash_mp" else "policy")

    def candidate(self) -> CausalModel:
        """Who the candidates come from: a pair of Nash-MP comes from the opponent, whoever learns from it."""
        return (
            self.opponent() if (self.config.method, self.config.loss) == ("nash_mp", "ipo") else self.readout("policy")
        )

    def together(self, candidates: int) -> CausalModel | None:
        """What writes so many candidates and, behind them, the opponents' texts in one batch, if something does."""
        if self.config.method == "nash_md":
            return PartlyMixed(self.readout("policy"), self.readout("reference"), self.config.mixture, candidates)
        return self.readout("policy") if self.config.method == "self_play" else None

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # [N, P], [N, T] -> [N, T]
        """Completions of prompts that are padded on the left."""
        prompt = obs.long()
        uniform = None if noise is None else (0.5 * (1.0 + torch.erf(noise * 0.5**0.5))).clamp(max=1.0 - 1e-7)
        mask = (prompt != self.symbols.pad).cumsum(-1) > 0
        length = self.config.max_new_tokens
        with self.precision(prompt.device):
            return generate(self.readout("policy"), prompt, mask, uniform, length, self.symbols).tokens

    def precision(self, device: torch.device) -> AbstractContextManager[object]:
        """Where the models run."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.config.bf16)

    def update(self, batch: JudgedTexts) -> Metrics:
        k, count = self.config, len(batch)
        judged = torch.nonzero(~batch.wins.isnan().any(1)).squeeze(1)
        if not len(judged):
            raise DataError(
                f"the judge failed on some pair of each of {count} prompts, so that nothing is left to learn"
            )
        optimizer, rate = self.optimizers["policy"], self.rate()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        found: list[tuple[float, Found]] = []
        assert isinstance(self.copies, nn.Module)
        self.copies.train(k.gradient_checkpointing)  # Hugging Face's models compute twice in this mode only
        for rows in torch.split(judged, k.rows_at_once or count):
            share = len(rows) / len(judged)
            part = self.losses(batch[rows])
            (share * part["loss/score"]).backward()  # type: ignore[no-untyped-call]
            found.append((share, {name: value.detach() for name, value in part.items()}))
        self.copies.eval()
        learning = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(learning, k.max_grad_norm)
        optimizer.step()
        self.step += 1
        self.advance()
        mean = {name: sum(share * part[name] for share, part in found) for name in found[0][1]}
        return mean | {
            "train/grad_norm": norm,
            "train/learning_rate": rate,
            "nash/proximal_steps": float(self.outer),
            "judge/queries": float(batch.queries),
            "judge/invalid": 1.0 - len(judged) / count,
            "judge/asymmetry": batch.asymmetry,
        }

    def rate(self) -> float:
        """The step size of this update."""
        k, step = self.config, int(self.step)
        return k.learning_rate * min(1.0, (step + 1) / max(k.warmup_steps, 1)) / (1.0 + step / k.decay_steps)

    def losses(self, batch: JudgedTexts) -> Found:
        """The loss and what is worth seeing of some prompts."""
        k, n, each = self.config, *batch.wins.shape
        texts = joined(batch.candidates, batch.rivals) if k.paired else batch.candidates
        texts, wins = texts.trimmed(), batch.wins
        with self.precision(wins.device):
            with torch.no_grad():
                log_mu = token_log_probs(self.readout("reference"), texts)
                pull = k.beta * log_mu
                if k.method == "nash_mp":
                    pull = pull + k.weight * token_log_probs(self.readout("anchor"), texts)
            log_pi = token_log_probs(self.readout("policy"), texts)  # [M, T]
        score = (k.total * log_pi - pull).sum(-1)  # [M]
        found: Found = {}
        if k.paired:
            score = score.view(2, n).T  # [N, 2]
            found["loss/score"] = self.of_pairs(score, wins[:, 0])
            first, second = (score.detach() / k.total).unbind(1)
            logits = f_dpo_logits(ALL[k.divergence], first, second, k.total)
            found["loss/saturated"] = saturated_share(logits)
        else:
            score = score.view(n, each)
            if k.loss == "regression":
                found["loss/score"] = sampled_regression_loss(score, wins)
            else:
                shape = (n, each, -1)
                found["loss/score"] = text_gradient_loss(log_pi.view(shape), wins, pull.view(shape), k.total, k.credit)
            residual = score.detach()[:, :2] - wins[:, :2]
            found["nash/prox_residual"] = (residual[:, 0] - residual[:, 1]).square().mean().sqrt()
        own = slice(0, n * each)
        whole, end = log_pi.detach()[own].sum(-1), self.symbols.end
        return found | {
            "loss/kl": (whole - log_mu[own].sum(-1)).mean(),
            "objective/entropy": -whole.mean(),
            "rewards/probabilities": wins.mean(),
            "val/policy_contain_eos_token": ends(batch.candidates.tokens, batch.candidates.mask, end),
            "val/opponent_contain_eos_token": ends(batch.rivals.tokens, batch.rivals.mask, end),
        }

    def of_pairs(self, score: Tensor, wins: Tensor) -> Tensor:  # [N, 2], [N] -> []
        """The loss of (candidate, opponent)."""
        k = self.config
        if k.loss == "ipo":
            return pair_loss(score, wins)
        if k.loss == "dpo":
            return dpo_loss(ALL[k.divergence], score / k.total, wins, k.total)
        return chi_po_pairs(score / k.total, wins, k.total, k.largest * k.beta)

    def advance(self) -> None:
        """Freeze what the schedule asks for."""
        k, step = self.config, int(self.step)
        if k.method == "nash_mp":
            place = step % (k.half_steps + k.full_steps)
            if place in (0, k.half_steps):
                self.copies.take("rival")
            if place == 0:
                self.copies.take("anchor")
                self.outer += 1
        if k.reset_reference_every and step % k.reset_reference_every == 0:
            self.copies.take("reference")


def ends(tokens: Tensor, mask: Tensor, end: int) -> Tensor:
    """Share of the texts that end before the longest length."""
    return ((tokens == end) & mask).any(-1).float().mean()


def without_dropout(module: nn.Module) -> nn.Module:
    """The same with every dropout at zero: likelihood ratios need the same model twice."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(getattr(part, "attention_dropout", None), float):
            part.attention_dropout = 0.0  # type: ignore[assignment]
    return module
