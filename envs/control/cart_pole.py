"""A pole on a cart in continuous time, to balance or to swing up."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlcore.envs.control.cart_pole_model import CART_POLE_BALANCE, CART_POLE_SWING_UP, CartPoleConfig
from rlcore.envs.control.drawing import draw_cart_pole
from rlcore.envs.control.pendulum_model import wrap
from rlcore.functional.linear_quadratic import LqSolution, solve_stationary
from rlcore.simulation.environment import ControlledDiffusion, ControlSpec, EnvState
from rlcore.simulation.integrators import Heun, Rk4
from rlcore.simulation.policy import Feedback

__all__ = ["CART_POLE_BALANCE", "CART_POLE_SWING_UP", "CartPole", "CartPoleConfig"]


class CartPole(ControlledDiffusion):
    """Drive a cart so that the rod hinged on it stands up; no friction.

        (M + m) x'' + m l (theta'' cos(theta) - theta'^2 sin(theta)) = u + varsigma dW/dt
        (4/3) l theta'' + x'' cos(theta) = g sin(theta),   theta = 0 upright, 2 l the length of the rod

    Observation
    | # | quantity      | range     | unit  |
    |---|---------------|-----------|-------|
    | 0 | x             | unbounded | m     |
    | 1 | x'            | unbounded | m/s   |
    | 2 | cos(theta)    | [-1, 1]   | 1     |
    | 3 | sin(theta)    | [-1, 1]   | 1     |
    | 4 | theta'        | unbounded | rad/s |

    Action
    | # | quantity      | range     | unit  |
    |---|---------------|-----------|-------|
    | 0 | force u       | [-10, 10] | N     |

    The drive saturates: a larger force acts, and costs, as the largest. Positive is to the right, and a rod with
    theta > 0 leans to the right. The state is (x, x', theta, theta') with theta in [-pi, pi].

    | | `CART_POLE_BALANCE`, "rlcore/CartPoleBalance-v0" | `CART_POLE_SWING_UP`, "rlcore/CartPoleSwingUp-v0" |
    |---|---|---|
    | start | within 0.1 of rest upright | within 0.1 of rest hanging |
    | q     | x^2 + 0.1 x'^2 + 20 (1 - cos theta) + 0.1 theta'^2 | a tenth of it |
    | reward rate | -(q + 0.1 u^2) | -(4 (1 - exp(-q / 4)) + 0.01 u^2) |
    | end   | \\|theta\\| > 0.5 rad or \\|x\\| > 2.4 m, with reward -100 | never; springs beyond \\|x\\| = 2.4 m |

    Discounted at 0.5 per second; truncated after 10 s; the control interval is 0.02 s. An end that costs nothing more
    would be a way out of costs, hence the terminal one; springs instead of an end leave the swing-up no way out at all.
    With force noise varsigma = 0, the default, the motion is integrated by Rk4, otherwise by Heun.
    Known answer: `local_solution`, the optimum of the problem linearised at upright, which is that of the true problem
    to second order in the state where there is no noise and no saturation. Near upright the costs of
    `CART_POLE_BALANCE` are ten times those of `CART_POLE_SWING_UP`.

    Source: Barto, Sutton and Anderson, IEEE Transactions on Systems, Man, and Cybernetics 13, 1983; Doya,
    "Reinforcement learning in continuous time and space", Neural Computation 12, 2000, swings it up. The saturating
    cost: Deisenroth and Rasmussen, "PILCO", ICML 2011.
    """

    def __init__(
        self,
        config: CartPoleConfig = CART_POLE_BALANCE,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        spec = ControlSpec(
            name="rlcore/CartPoleBalance-v0",
            state_dim=4,
            action_dim=1,
            noise_dim=1 if config.force_noise else 0,
            dt=config.dt,
            horizon=config.horizon,
            discount_rate=config.discount_rate,
            action_low=-config.max_force,
            action_high=config.max_force,
            observation_dim=5,
        )
        integrator = Heun(config.substeps) if config.force_noise else Rk4(config.substeps)
        super().__init__(spec, integrator, dtype=dtype, device=device)
        self.config = config
        self._middle = torch.tensor([0.0, 0.0, config.start_angle, 0.0], dtype=dtype, device=self.device)

    @property
    def terminates(self) -> bool:
        return math.isfinite(min(self.config.max_position, self.config.max_angle))

    def initial_state(self, noise: Tensor) -> EnvState:  # [B, 4]
        uniform = torch.erf(noise * 0.5**0.5)  # in (-1, 1)
        t = torch.zeros(noise.shape[0], dtype=torch.float64, device=noise.device)
        return EnvState(t, wrap_angle(self._middle + self.config.start_spread * uniform))

    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # [B], [B, 4], [B, 1] -> [B, 4]
        cart, pole = self.config.accelerations(x, u[:, 0])
        return torch.stack([x[:, 1], cart, x[:, 3], pole], dim=1)

    def diffusion(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # -> [B, 4, w]
        sigma = x.new_zeros(*x.shape, self.spec.noise_dim)
        cart, pole = self.config.response(x[:, 2])
        sigma[:, 1] = self.config.force_noise * cart.unsqueeze(1)
        sigma[:, 3] = self.config.force_noise * pole.unsqueeze(1)
        return sigma

    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # -> [B]
        return -self.config.cost_rate(x, u[:, 0])

    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        (t, x), reward = super().transition(state, action, noise)
        return EnvState(t, wrap_angle(x)), reward

    def observe(self, state: EnvState) -> Tensor:  # -> [B, 5]
        position, velocity, angle, spin = state.x.unbind(1)
        return torch.stack([position, velocity, torch.cos(angle), torch.sin(angle), spin], dim=1)

    def terminated(self, state: EnvState) -> Tensor:  # -> bool [B]
        return (state.x[:, 0].abs() > self.config.max_position) | (state.x[:, 2].abs() > self.config.max_angle)

    def terminal_reward(self, state: EnvState) -> Tensor:  # -> [B]
        return torch.full_like(state.x[:, 0], -self.config.terminal_cost)

    def local_solution(self) -> LqSolution:
        """Optimal gain and value of the problem linearised at upright: V(x) = x'K x / 2 + k0, u = gain x."""
        return solve_stationary(self.config.linearised())

    def local_value(self, x: Tensor) -> Tensor:  # [B, 4] -> [B]
        """Optimal value near upright, from states (x, x', theta, theta')."""
        return torch.as_tensor(self.local_solution().value(x.double().cpu().numpy()), dtype=x.dtype, device=x.device)

    def local_policy(self) -> Feedback:
        """The linear feedback that is optimal near upright; it reads the angle from its cosine and sine."""
        gain = torch.as_tensor(self.local_solution().gain[0])
        return Feedback(lambda obs: (states(obs) @ gain.to(obs)).unsqueeze(1))

    def render(self, state: EnvState) -> NDArray[np.uint8]:  # [400, 400, 3]
        """Picture of row 0: the rail with its ends, the cart and the rod."""
        k, (position, _, angle, _) = self.config, state.x[0].tolist()
        end = min(k.rail, k.max_position)
        return draw_cart_pole(position, angle, length=k.length, rail=end if math.isfinite(end) else 3.0 * k.length)


def wrap_angle(x: Tensor) -> Tensor:  # [B, 4] -> [B, 4]
    """The same state with its angle in [-pi, pi]."""
    return torch.cat([x[:, :2], wrap(x[:, 2:3]), x[:, 3:]], dim=1)


def states(obs: Tensor) -> Tensor:  # [B, 5] -> [B, 4]
    """(x, x', theta, theta') from observations."""
    return torch.stack([obs[:, 0], obs[:, 1], torch.atan2(obs[:, 3], obs[:, 2]), obs[:, 4]], dim=1)
