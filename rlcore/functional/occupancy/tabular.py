"""Discounted occupancies of finite problems, exactly.

    mu(s, a) = (1 - g) E sum_t g^t 1{s_t = s, a_t = a},   J(pi, R) = <mu, R>

mu sums to 1 and solves the Bellman flow mu(s) = (1 - g) start(s) + g sum P(s | s', a') mu(s', a'). Everything is
float64: transition [S, A, S], policies and rewards [S, A], start [S].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.checks import check_shape
from rlcore.errors import ConfigError, DataError


@dataclass(frozen=True)
class FiniteProblem:
    """States, actions and where they lead; no reward, since there are two of them."""

    transition: Tensor  # [S, A, S], rows sum to 1
    start: Tensor  # [S], sums to 1
    discount: float

    def __post_init__(self) -> None:
        states, actions = self.transition.shape[:2]
        check_shape("transition", self.transition, (states, actions, states))
        check_shape("start", self.start, (states,))
        if not 0.0 <= self.discount < 1.0:
            raise ConfigError(f"discount must lie in [0, 1), got {self.discount}; an occupancy needs an end")
        for name, mass in (("transition", self.transition.sum(-1)), ("start", self.start.sum())):
            if bool((mass - 1.0).abs().max() > 1e-6):
                raise DataError(f"{name} must sum to 1 over its last index, got {float(mass.min()):.6g} somewhere")

    def occupancy(self, policy: Tensor) -> Tensor:  # [S, A] -> [S, A]
        """mu of a stationary policy, by one linear solve."""
        return occupancies(self.transition, self.start, self.discount, policy)

    def action_values(self, policy: Tensor, reward: Tensor) -> Tensor:  # [S, A], [S, A] -> [S, A]
        """Q of a policy, unnormalised: R + g P V, V = (I - g P_pi)^-1 R_pi."""
        moves = torch.einsum("sa,sat->st", policy, self.transition)
        stays = torch.eye(len(moves), dtype=moves.dtype) - self.discount * moves
        value: Tensor = torch.linalg.solve(stays, (policy * reward).sum(-1))
        return reward + self.discount * self.transition @ value

    def values(self, reward: Tensor, *, sweeps: int = 100_000, tolerance: float = 1e-13) -> Tensor:  # -> [S, A]
        """Q* of a reward [S, A], unnormalised: sum_t g^t R."""
        q = torch.zeros_like(reward)
        for _ in range(sweeps):
            after = reward + self.discount * self.transition @ q.amax(-1)
            change = (after - q).abs().max()
            q = after
            if change <= tolerance * (1.0 + q.abs().max()):
                break
        return q

    def best(self, reward: Tensor) -> Tensor:  # [S, A] -> [S, A]
        """A policy that is optimal for a reward, the first action where several are."""
        choice = self.values(reward).argmax(-1)
        return torch.nn.functional.one_hot(choice, reward.shape[1]).to(reward)

    def episode(self, policy: Tensor, *rewards: Tensor, steps: int) -> list[float]:
        """Undiscounted sums of rewards over so many steps from the start."""
        moves = torch.einsum("sa,sat->st", policy, self.transition)
        earned = torch.stack([(policy * reward).sum(-1) for reward in rewards])  # [R, S]
        place, totals = self.start, torch.zeros(len(rewards), dtype=self.start.dtype)
        for _ in range(steps):
            totals, place = totals + earned @ place, place @ moves
        return [float(total) for total in totals]


def occupancies(
    transition: Tensor, start: Tensor, discount: float, policy: Tensor
) -> Tensor:  # [..., S, A, S], [..., S], [..., S, A] -> [..., S, A]
    """mu of one problem, or of many at once."""
    moves = torch.einsum("...sa,...sat->...st", policy, transition)
    flow = torch.eye(moves.shape[-1], dtype=moves.dtype) - discount * moves.mT
    visits: Tensor = torch.linalg.solve(flow, (1.0 - discount) * start)
    return visits.clamp(min=0.0).unsqueeze(-1) * policy


def policy_of(occupancy: Tensor, elsewhere: Tensor | None = None) -> Tensor:  # [S, A] -> [S, A]
    """mu(a | s); where nothing is visited, `elsewhere`, by default uniform."""
    visits = occupancy.sum(-1, keepdim=True)
    unknown = torch.full_like(occupancy, 1.0 / occupancy.shape[1]) if elsewhere is None else elsewhere
    return torch.where(visits > 0.0, occupancy / visits.clamp(min=1e-300), unknown)


def two_states(exit_probability: float, discount: float = 0.99) -> tuple[FiniteProblem, Tensor, Tensor]:
    """A state that pays 1 and one that absorbs and pays nothing: (problem, reward, policy).

    Action 1 leaves, with the given probability. A hundredfold rarer exit changes the actions at the visited state by
    next to nothing, and the occupancy by a half: why a penalty on actions misses what one on occupancies sees.
    """
    stay, gone = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    transition = torch.stack([torch.stack([stay, gone]), torch.stack([gone, gone])]).double()
    reward = torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    q = exit_probability
    policy = torch.tensor([[1.0 - q, q], [1.0, 0.0]], dtype=torch.float64)
    return FiniteProblem(transition, stay.double(), discount), reward, policy
