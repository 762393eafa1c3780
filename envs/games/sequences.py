"""A preference game over sequences that are written token by token, in every one of several contexts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from rlcore.checks import check_integer, check_positive
from rlcore.envs.games.bandit import CLASSES, LARGEST_LOGIT, MOVE, WINS, uniform_place
from rlcore.envs.games.tables import DOUBLE, cyclic_table
from rlcore.errors import ConfigError
from rlcore.functional.divergence import kl
from rlcore.functional.games import ClassPreference, PreferenceGame, SequenceTree, equilibrium
from rlcore.simulation.environment import ControlSpec, Environment, EnvState
from rlcore.simulation.policy import Feedback

Author = Literal["equilibrium", "reference"]


@dataclass(frozen=True)
class PreferenceSequencesConfig:
    """The sequences, the game and the opponent of `PreferenceSequences`."""

    contexts: int = 3
    """Contexts, drawn uniformly, one for each episode; each has a reference of its own."""
    letters: int = 2
    """Letters of the alphabet."""
    length: int = 4
    """Letters of the longest sequence; shorter ones end by a token of their own."""
    beta: float = 0.1
    """Strength of the pull to the reference, in units of the preference."""
    opponent: Author = "equilibrium"
    """Who wrote the sequence that this one is judged against."""
    seed: int = 0
    """Of the references."""


class PreferenceSequences(Environment):
    """Write a sequence, each second a token: show logits over the next token, and be judged at the end.

    The class of a sequence is how often it has the first letter, modulo 3, and each class beats the next with
    probability 0.9. With two letters and length 4 there are 31 sequences.

    Observation
    | #               | quantity                                                | range | unit |
    |-----------------|---------------------------------------------------------|-------|------|
    | 0 .. C - 1      | which context, one of them being 1                      | 0, 1  | 1    |
    | C .. C + TV - 1 | at k V + a: whether the k-th token is the letter a      | 0, 1  | 1    |

    Action
    | #          | quantity                                      | range     | unit |
    |------------|-----------------------------------------------|-----------|------|
    | 0 .. V - 1 | logits of the letters as the next token       | [-20, 20] | nats |
    | V          | logit of the end                              | [-20, 20] | nats |

    The token is drawn from the policy that is shown. Reward per move: -beta KL(policy | mu) at this prefix; on arrival
    at the end (P opponent)(y) + beta KL(opponent | mu). An episode so sums to J(pi, opponent) in the mean, and by
    J(pi, pi*) = 1/2 - beta KL(pi | pi*) the equilibrium is the best policy against itself.

    Known answer: `log_equilibrium` [C, N] over whole sequences, `optimal_policy()` against this opponent, and
    `optimal_reward` per episode, 1/2 against the equilibrium.
    Source: the class reduction of a game; Munos et al., "Nash learning from human feedback", ICML 2024.
    """

    def __init__(
        self,
        config: PreferenceSequencesConfig = PreferenceSequencesConfig(),
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        check_integer("contexts", config.contexts)
        check_positive("beta", config.beta)
        if config.contexts < 1:
            raise ConfigError(f"need contexts >= 1, got {config.contexts}")
        if config.opponent not in get_args(Author):
            raise ConfigError(f"opponent must be one of {', '.join(get_args(Author))}, got {config.opponent!r}")
        self.config, self.tree = config, SequenceTree(config.letters, config.length)
        spec = ControlSpec(
            "rlcore/PreferenceSequences-v0",
            state_dim=3,
            action_dim=self.tree.tokens,
            noise_dim=1,
            dt=MOVE,
            horizon=(config.length + 1) * MOVE,
            action_low=-LARGEST_LOGIT,
            action_high=LARGEST_LOGIT,
            observation_dim=config.contexts + config.length * config.letters,
            initial_noise_dim=1,
        )
        super().__init__(spec, dtype=dtype, device=device)
        table, classes, reference = sequence_game(config, self.tree)
        self.judge = ClassPreference(table.to(dtype), classes)
        log_mu = self.tree.sequences(reference)
        self.game = PreferenceGame(ClassPreference(table, classes), log_mu, config.beta)  # float64, on the CPU
        star = equilibrium(self.game)
        opponent = star if config.opponent == "equilibrium" else log_mu
        best = self.game.best_response(opponent)
        self.optimal_reward = float(self.game.value(best, opponent).mean())
        worth = self.game.payoffs(opponent) + config.beta * kl(opponent, log_mu).unsqueeze(-1)
        self.reference, self.log_equilibrium, self.log_tokens, self.worth, self.seen = (
            x.to(self.device, dtype)
            for x in (reference, star, self.tree.conditionals(best), worth, self.tree.one_hot())
        )  # [C, I, V + 1], [C, N], [C, I, V + 1], [C, N], [N, T V]

    def optimal_policy(self) -> Feedback:
        """Logits of the next token under the best policy against this opponent: the equilibrium against itself."""

        def act(obs: Tensor) -> Tensor:  # [B, d] -> [B, V + 1]
            contexts = self.config.contexts
            place = self.tree.numbered(obs[:, contexts:]).clamp(max=self.tree.inner - 1)
            return self.log_tokens[obs[:, :contexts].argmax(-1), place]

        return Feedback(act)

    def initial_state(
        self, noise: Tensor
    ) -> EnvState:  # [B, 1]; the state is context, sequence so far, whether it ended
        t = torch.zeros(len(noise), dtype=torch.float64, device=noise.device)
        context = (uniform_place(noise) * self.config.contexts).floor().clamp(max=self.config.contexts - 1)
        return EnvState(t, torch.stack([context, torch.zeros_like(context), torch.zeros_like(context)], 1))

    def observe(self, state: EnvState) -> Tensor:  # -> [B, C + T V]
        here, place = state.x[:, 0].long(), state.x[:, 1].long()
        context = torch.nn.functional.one_hot(here, self.config.contexts).to(self.seen)
        return torch.cat([context, self.seen[place]], 1)

    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        here, place, ended = state.x[:, 0].long(), state.x[:, 1].long(), state.x[:, 2] > 0.0
        log_policy = torch.log_softmax(action, -1)
        pull = kl(log_policy, self.reference[here, place.clamp(max=self.tree.inner - 1)])
        token = (log_policy.exp().cumsum(-1) < uniform_place(noise).unsqueeze(-1)).sum(-1).clamp(max=self.tree.letters)
        stops = token == self.tree.letters
        after = torch.where(stops | ended, place, place * self.tree.letters + 1 + token)
        over = stops | ended | (after >= self.tree.inner)
        x = torch.stack([state.x[:, 0], after.to(state.x), over.to(state.x)], 1)
        return EnvState(state.t + MOVE, x), torch.where(ended, 0.0, -self.config.beta * pull)

    def terminated(self, state: EnvState) -> Tensor:
        return state.x[:, 2] > 0.0

    def terminal_reward(self, state: EnvState) -> Tensor:
        return self.worth[state.x[:, 0].long(), state.x[:, 1].long()]


def sequence_game(config: PreferenceSequencesConfig, tree: SequenceTree) -> tuple[Tensor, Tensor, Tensor]:
    """Preferences between classes [3, 3], the class of each sequence [N], and references by prefix [C, I, V + 1]."""
    generator = torch.Generator().manual_seed(config.seed)
    logits = torch.randn(config.contexts, tree.inner, tree.tokens, dtype=DOUBLE, generator=generator)
    classes = (tree.spelled() == 0).sum(-1) % CLASSES
    return cyclic_table(CLASSES, wins=WINS), classes, torch.log_softmax(logits, -1)
