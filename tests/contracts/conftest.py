"""`toy`: a diffusion small enough to check adapters against, with noise, an end of its own and a terminal reward."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rlcore.simulation import ControlledDiffusion, ControlSpec, EnvState, EulerMaruyama


class Toy(ControlledDiffusion):
    """dX = (-0.5 X + u) dt + 0.5 dW in two dimensions; ends for 7 where |X_1| > `wall`, or after `horizon`."""

    def __init__(self, wall: float = math.inf, horizon: float = 0.5, **place: object) -> None:
        spec = ControlSpec("rlcore/Toy-v0", 2, 2, 2, dt=0.1, horizon=horizon, discount_rate=0.5)
        super().__init__(spec, EulerMaruyama(), **place)
        self.wall = wall

    def initial_state(self, noise: Tensor) -> EnvState:
        return EnvState(torch.zeros(noise.shape[0], dtype=torch.float64, device=noise.device), 0.5 * noise)

    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return -0.5 * x + u

    def diffusion(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return (0.5 * torch.eye(2, dtype=x.dtype, device=x.device)).expand(x.shape[0], 2, 2)

    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return -(x**2).sum(1) - 0.1 * (u**2).sum(1)

    def terminated(self, state: EnvState) -> Tensor:
        return state.x[:, 0].abs() > self.wall

    def terminal_reward(self, state: EnvState) -> Tensor:
        return torch.full_like(state.x[:, 0], 7.0)

    def render(self, state: EnvState) -> np.ndarray:
        return np.full((8, 8, 3), 255, dtype=np.uint8)


@pytest.fixture
def toy() -> type[Toy]:
    return Toy
