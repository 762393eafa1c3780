"""What is measured of a language policy: wins against others, KL, and how much a listed text could win at least."""

from __future__ import annotations

import torch
from torch import Tensor

from rlcore.agents.nash.language.agent import NashLanguage
from rlcore.agents.nash.language.referee import Referee
from rlcore.agents.nash.language.source import Prompts, TextDuels, compare
from rlcore.data.texts import Completions, joined
from rlcore.nn.generation import text_log_probs


@torch.no_grad()
def measure(
    agent: NashLanguage, prompts: Prompts, referee: Referee, *, seed: int, device: str | torch.device = "cpu"
) -> tuple[dict[str, float], Completions]:
    """Metrics over all prompts, and the policy's texts; the same random numbers at each call.

    `nash/exploitability_lower_bound` is the mean over prompts of (P pi)(y) - 1/2 for the best y among one text each of
    policy, reference and anchor, chosen against one sample of the policy and judged against another, so that its mean
    is at most max over y of (P pi)(y) - 1/2.
    """
    source = TextDuels(prompts, referee, len(prompts), generator=torch.Generator().manual_seed(seed), device=device)
    rows, prompt, mask = prompts.take(range(len(prompts)))
    prompt, mask = prompt.to(device), mask.to(device)
    policy = agent.readout("policy")
    own, test, choose = (source.write(agent, policy, prompt, mask) for _ in range(3))
    others = {"reference": source.write(agent, agent.readout("reference"), prompt, mask)}
    if agent.config.method == "nash_mp":
        others["anchor"] = source.write(agent, agent.readout("anchor"), prompt, mask)
    found = {}
    for name, texts in others.items():
        wins = compare(referee, rows, own, texts).wins
        found[f"nash/win_vs_{name}"] = float(wins.nanmean())
    candidates = [own, *others.values()]
    first, second = (
        torch.stack([compare(referee, rows, y, rival).wins for y in candidates], 1) for rival in (choose, test)
    )  # [N, candidates]
    best = second.gather(1, first.nan_to_num(0.0).argmax(1, keepdim=True))
    found["nash/exploitability_lower_bound"] = float(best.nanmean()) - 0.5
    with agent.precision(prompt.device):
        log_pi = text_log_probs(policy, own, agent.config.rows_at_once or None)
        log_mu = text_log_probs(agent.readout("reference"), own, agent.config.rows_at_once or None)
    found["eval/kl"] = float((log_pi - log_mu).mean())
    found["eval/length"] = float(own.mask.sum(-1).float().mean())
    found["eval/distinct"] = distinct(joined(own, test))
    return found, own


def distinct(texts: Completions) -> float:
    """Share of texts that no other equals: 0 for a policy that says one thing only."""
    _, counts = torch.unique(torch.where(texts.mask, texts.tokens, -1), dim=0, return_counts=True)
    return float((counts == 1).sum()) / len(texts)


def enumerated_log_probs(agent: NashLanguage, texts: Completions, name: str = "policy") -> Tensor:  # -> [n]
    """Normalised log-probabilities, in double precision, of all texts of a prompt."""
    with torch.no_grad():
        return torch.log_softmax(text_log_probs(agent.readout(name), texts).double(), -1)
