"""A preference game for each of several contexts, against an opponent that answers: a game that any agent can play."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from rlcore.checks import check_integer, check_positive
from rlcore.envs.games.tables import DOUBLE, cyclic_table
from rlcore.errors import ConfigError
from rlcore.functional.divergence import kl
from rlcore.functional.games import MatrixPreference, PreferenceGame, equilibrium
from rlcore.simulation.environment import ControlSpec, Environment, EnvState

Opponent = Literal["exploiter", "reference", "equilibrium"]
CLASSES, WINS = 3, 0.9
LARGEST_LOGIT = 20.0
MOVE, MOVES = 1.0, 10  # [s], and moves of an episode


@dataclass(frozen=True)
class PreferenceBanditConfig:
    """The games and the opponent of `PreferenceBandit`."""

    contexts: int = 3
    """Contexts, drawn uniformly; each has a reference of its own."""
    actions: int = 6
    """Actions, at least 3; action i is of class i mod 3, and each class beats the next with probability 0.9."""
    beta: float = 0.1
    """Strength of the pull to the reference, in units of the preference."""
    opponent: Opponent = "exploiter"
    """Who plays against the policy: its best response, the reference, or the equilibrium."""
    seed: int = 0
    """Of the references."""


MATRIX = PreferenceBanditConfig(contexts=1, actions=3)


class PreferenceBandit(Environment):
    """Each second a context is drawn: show logits over the actions, and earn J(pi, opponent).

    Observation
    | #          | quantity                            | range | unit |
    |------------|-------------------------------------|-------|------|
    | 0 .. C - 1 | which context, one of them being 1  | 0, 1  | 1    |

    Action
    | #          | quantity                            | range     | unit |
    |------------|-------------------------------------|-----------|------|
    | 0 .. A - 1 | logits of the mixed policy          | [-20, 20] | nats |

    Reward per move: J(pi, opponent) = pi^T P opponent - beta KL(pi | mu) + beta KL(opponent | mu), in expectation over
    both policies. Against the exploiter, the best response to pi, it is 1/2 - gap(pi). Contexts follow one another
    independently, and the horizon truncates after ten moves.

    Known answer: `log_equilibrium` [C, A], and `optimal_reward` per move: 1/2 against the exploiter and the
    equilibrium. By the symmetry of the classes the equilibrium over classes is that of a game of three actions.
    Source: the class reduction of a game; Munos et al., "Nash learning from human feedback", ICML 2024.
    """

    def __init__(
        self,
        config: PreferenceBanditConfig = PreferenceBanditConfig(),
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        check_integer("contexts, actions", config.contexts, config.actions)
        check_positive("beta", config.beta)
        if config.contexts < 1 or config.actions < CLASSES:
            raise ConfigError(f"need contexts >= 1 and actions >= 3, got {config.contexts} and {config.actions}")
        if config.opponent not in get_args(Opponent):
            raise ConfigError(f"opponent must be one of {', '.join(get_args(Opponent))}, got {config.opponent!r}")
        self.config = config
        spec = ControlSpec(
            "rlcore/PreferenceBandit-v0",
            config.contexts,
            config.actions,
            noise_dim=1,
            dt=MOVE,
            horizon=MOVES * MOVE,
            action_low=-LARGEST_LOGIT,
            action_high=LARGEST_LOGIT,
            initial_noise_dim=1,
        )
        super().__init__(spec, dtype=dtype, device=device)
        table, log_mu = bandit_games(config)
        self.game = PreferenceGame(MatrixPreference(table), log_mu, config.beta)  # float64, on the CPU
        star = equilibrium(self.game)
        best = self.game.value(self.game.best_response(log_mu), log_mu)
        self.optimal_reward = float(best.mean()) if config.opponent == "reference" else 0.5
        self.table, self.log_reference, self.log_equilibrium = (
            x.to(self.device, dtype) for x in (table, log_mu, star)
        )  # [C, A, A], [C, A], [C, A]
        known = {"exploiter": None, "reference": self.log_reference, "equilibrium": self.log_equilibrium}
        self.opponent = known[config.opponent]  # None answers with its best response

    def initial_state(self, noise: Tensor) -> EnvState:  # [B, 1]
        t = torch.zeros(len(noise), dtype=torch.float64, device=noise.device)
        return EnvState(t, self.draw(noise))

    def draw(self, noise: Tensor) -> Tensor:  # [B, 1] -> [B, C]
        """A context for each row, uniformly."""
        context = (uniform_place(noise) * self.config.contexts).long().clamp(max=self.config.contexts - 1)
        return torch.nn.functional.one_hot(context, self.config.contexts).to(noise)

    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        reward = self.earn(torch.log_softmax(action, -1), state.x.argmax(-1))
        return EnvState(state.t + MOVE, self.draw(noise)), reward

    def earn(self, log_policy: Tensor, here: Tensor) -> Tensor:  # [B, A], [B] -> [B]
        """J(pi, opponent) in each row's own context; against the best response of pi, 1/2 - beta KL(pi | response)."""
        log_mu, beta = self.log_reference[here], self.config.beta
        payoffs = (self.table[here] @ log_policy.exp().unsqueeze(-1)).squeeze(-1)  # P pi, [B, A]
        if self.opponent is None:
            return 0.5 - beta * kl(log_policy, torch.log_softmax(log_mu + payoffs / beta, -1))
        opponent = self.opponent[here]
        wins = 1.0 - (opponent.exp() * payoffs).sum(-1)
        return wins - beta * kl(log_policy, log_mu) + beta * kl(opponent, log_mu)


def uniform_place(noise: Tensor) -> Tensor:  # [B, 1] -> [B]
    """A uniform number in [0, 1] for each row of standard normals."""
    return 0.5 * (1.0 + torch.erf(noise[:, 0] * 0.5**0.5))


def bandit_games(config: PreferenceBanditConfig) -> tuple[Tensor, Tensor]:  # -> [C, A, A], [C, A]
    """Preferences and log-references of all contexts, in float64."""
    generator = torch.Generator().manual_seed(config.seed)
    logits = torch.randn(config.contexts, config.actions, dtype=DOUBLE, generator=generator)
    classes = torch.arange(config.actions) % CLASSES
    table = cyclic_table(CLASSES, wins=WINS)[classes][:, classes]
    return table.expand(config.contexts, -1, -1).contiguous(), torch.log_softmax(logits, -1)
