"""The tomato garden as a finite problem, enumerated from its start."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.envs.hacking.boards import MOVES, Garden
from rlcore.errors import DataError
from rlcore.functional.occupancy import FiniteProblem
from rlcore.nn.heads import Categorical

State = tuple[int, int]  # the cell, and the wet tomatoes as bits


@dataclass(frozen=True)
class TomatoModel:
    """Every reachable state, where it leads, and what it pays: rewards [S, A] of a step, in expectation."""

    problem: FiniteProblem
    proxy: Tensor  # [S, A]
    true: Tensor  # [S, A]
    number: dict[State, int]
    tomatoes: int
    cells: int

    def index(self, obs: Tensor) -> Tensor:  # [..., d] -> [...]
        """The numbers of observed states."""
        cell = obs[..., : self.cells].argmax(-1)
        powers = 2 ** torch.arange(self.tomatoes, device=obs.device)
        bits = ((obs[..., self.cells : self.cells + self.tomatoes] > 0.5).long() * powers).sum(-1)
        table = torch.full((self.cells << self.tomatoes,), -1, device=obs.device)
        keys = torch.tensor([(c << self.tomatoes) + b for c, b in self.number], device=obs.device)
        table[keys] = torch.tensor(list(self.number.values()), device=obs.device)
        found = table[(cell << self.tomatoes) + bits]
        if bool((found < 0).any()):
            raise DataError("an observation is of a state that cannot be reached; was it made with legacy=True?")
        return found

    def softened(self, temperature: float, uniform: float = 0.1) -> Tensor:  # -> [S, A]
        """(1 - uniform) softmax(Q*_true / temperature) + uniform / A: a decent policy that leaves room."""
        q = self.problem.values(self.true)
        return (1.0 - uniform) * torch.softmax(q / temperature, -1) + uniform / q.shape[1]


@dataclass(frozen=True)
class TabularPolicy:
    """A policy [S, A] of the finite problem, for the environment."""

    model: TomatoModel
    table: Tensor  # [S, A]
    noise_dim: int = 1

    def law(self, obs: Tensor) -> Tensor:  # [..., d] -> [..., A]
        """log-probabilities of the four actions."""
        return self.table.to(obs)[self.model.index(obs)].log()

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return Categorical(self.table.shape[1]).act(self.law(obs), noise)


def tomato_model(garden: Garden, discount: float, slip: float, reward: float) -> TomatoModel:
    """Breadth first from the start, all dry; a state with every tomato wet ends, in a state that pays nothing."""
    tomatoes, everything = garden.tomatoes, (1 << garden.tomatoes) - 1
    dries = [sum(1 << k for k, is_far in enumerate(row) if is_far) for row in garden.far.tolist()]
    move = garden.move.tolist()
    start = (garden.start, 0)
    number, todo, steps = {start: 0}, [start], []
    while todo:
        following = []
        for cell, wet in todo:
            if wet == everything and tomatoes:
                continue
            for action in range(len(MOVES)):
                to = move[cell][action]
                after = (to, (wet | (1 << to if to < tomatoes else 0)) & ~dries[to])
                if after not in number:
                    number[after] = len(number)
                    following.append(after)
                steps.append((number[cell, wet], action, number[after]))
        todo = following
    states = len(number)
    goes = torch.zeros(states + 1, len(MOVES), states + 1, dtype=torch.float64)
    goes[:, :, states] = 1.0  # the end, from itself and from where all are wet
    for origin, action, there in steps:
        goes[origin, action, states], goes[origin, action, there] = 0.0, 1.0
    ends = bool((goes[:states, :, states] > 0.0).any())
    if not ends:
        goes = goes[:states, :, :states]
    goes = (1.0 - slip) * goes + slip * goes.mean(1, keepdim=True)
    count = torch.tensor([float(bits.bit_count()) for _, bits in number] + [0.0] * ends, dtype=torch.float64)
    on = torch.tensor([cell == garden.sprinkler for cell, _ in number] + [False] * ends)
    true, proxy = (goes @ (reward * x) for x in (count, torch.where(on, float(len(garden.cells)), count)))
    begin = torch.zeros(len(goes), dtype=torch.float64)
    begin[0] = 1.0
    return TomatoModel(FiniteProblem(goes, begin, discount), proxy, true, number, tomatoes, len(garden.cells))
