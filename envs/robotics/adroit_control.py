"""Planned movements of the Adroit hand, with Gaussian noise: one opens the door, a library of others turns the pen.

A movement goes straight from point to point in time. `DoorPull` has K = 9 points of nine numbers: the four joints of
the arm, the two of the wrist, and how far the knuckles, the other finger joints and the thumb are bent. The first five
turn the handle, which stays turned, the others pull. The arm's points are moved with the place h of the handle at the
start, which varies by 0.1 m, by M (h - h0), with one matrix M for each of the two parts.

`PenTurn` knows how the pen turned in each of N movements of all joints, and plays the one that came nearest to its aim.
Both act on observations with the columns that `Clocked` adds. Actions are on the unit box, clipped.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlcore.checks import check_not_negative, check_shape
from rlcore.envs.robotics.adroit import AIM, HANDLE, TASKS

PULL_TIMES = (0.0, 0.319, 0.638, 0.956, 1.1, 1.35, 1.59, 1.82, 1.98)  # s
TURN_TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)  # s
ARM, WRIST, PARTS = 4, 2, 9
REACHING = 5  # points, before those that pull
KNUCKLES, FINGERS, THUMB = [7, 11, 15, 20], [8, 9, 12, 13, 16, 17, 21, 22], [23, 24]
HANDLE_MEAN = (0.04, 0.15, 0.275)  # h0 [m]
PER_METRE = 20.0  # M is in units of the action per 0.05 m


def along(points: Tensor, time: Tensor, times: Sequence[float]) -> Tensor:  # [B or 1, K, p], [B] s, K s -> [B, p]
    """Where a movement is at a time: straight between its points, and at the last from then on."""
    at = time.new_tensor(times)
    before = torch.bucketize(time.contiguous(), at[1:-1], right=True)  # [B] in 0 .. K - 2
    share = ((time - at[before]) / (at[before + 1] - at[before])).clamp(max=1.0)
    points = points.expand(len(time), -1, -1)
    row = torch.arange(len(time), device=time.device)
    return torch.lerp(points[row, before], points[row, before + 1], share.unsqueeze(1))


def shaken(action: Tensor, spread: float, noise: Tensor | None) -> Tensor:
    """The action with its noise, in the unit box."""
    return (action if noise is None else action + spread * noise).clamp(-1.0, 1.0)


class DoorPull:
    """Reaches for the handle, turns it and pulls, with noise of the given standard deviation."""

    noise_dim, width = 28, 39
    moves_from = len(PULL_TIMES) * PARTS  # in the vector
    numbers = moves_from + 2 * ARM * 3

    def __init__(self, vector: Tensor, noise: float = 0.0) -> None:
        check_shape("vector", vector, (self.numbers,))
        check_not_negative("noise", noise)
        self.points = vector[: self.moves_from].view(-1, PARTS)  # [K, 9]
        moves = vector[self.moves_from :].view(2, ARM, 3)
        part = (torch.arange(len(PULL_TIMES)) >= REACHING).long()
        self.moves, self.noise = moves[part], noise  # [K, 4, 3]

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # [B, 79] -> [B, 28]
        handle, time = obs[:, self.width :][:, HANDLE], obs[:, -1]
        away = PER_METRE * (handle - handle.new_tensor(HANDLE_MEAN))  # [B, 3]
        points = self.points.to(obs).repeat(len(obs), 1, 1)  # [B, K, 9]
        points[..., :ARM] += torch.einsum("kac,bc->bka", self.moves.to(obs), away)
        parts = along(points, time, PULL_TIMES)  # [B, 9]
        action = obs.new_zeros(len(obs), self.noise_dim)
        action[:, :ARM] = parts[:, :ARM]
        action[:, ARM : ARM + WRIST] = parts[:, ARM : ARM + WRIST]
        for part, joints in enumerate((KNUCKLES, FINGERS, THUMB), ARM + WRIST):
            action[:, joints] = parts[:, part : part + 1]
        return shaken(action, self.noise, noise)


class PenTurn:
    """The movement [N, K, 24] under which the pen came nearest to its aim, with noise of the given standard deviation.

    `turned` [N, T, 3] is the pen's direction at each step of each movement, 0 where it was not in its place.
    """

    noise_dim = 24

    def __init__(self, movements: Tensor, turned: Tensor, noise: float = 0.0) -> None:
        check_shape("turned", turned, (len(movements), TASKS["pen"][1], 3))
        check_not_negative("noise", noise)
        self.movements, self.turned, self.noise = movements, turned, noise

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # [B, 91] -> [B, 24]
        best = self.nearness(obs[:, AIM]).argmax(1)  # [B]
        action = along(self.movements.to(obs)[best], obs[:, -1], TURN_TIMES)
        return shaken(action, self.noise, noise)

    def nearness(self, aim: Tensor) -> Tensor:  # [B, 3] -> [B, N]
        """The largest cosine between the pen and its aim, of each movement."""
        return (self.turned.to(aim) @ aim.T).amax(1).T
