"""The scalar linear-quadratic problem with multiplicative noise and entropy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlcore.checks import check_not_negative, check_numbers, check_positive
from rlcore.functional.linear_quadratic import (
    LqProblem,
    LqSolution,
    average_reward,
    evaluate_linear_gaussian,
    solve_stationary,
)
from rlcore.simulation import ControlledDiffusion, ControlSpec, EnvState, EulerMaruyama, GaussianFeedback


@dataclass(frozen=True)
class ScalarLqrConfig:
    """Coefficients with the letters of the literature; x and u have no unit."""

    A: float = -0.5
    """Drift per unit of state [1/s]."""
    B: float = 1.0
    """Drift per unit of action [1/s]."""
    C: float = 0.3
    """Noise per unit of state [1/sqrt(s)]."""
    D: float = 0.4
    """Noise per unit of action [1/sqrt(s)]."""
    sigma: float = 0.0
    """Noise that depends on neither, independent of the other one [1/sqrt(s)]."""
    M: float = 2.0
    """Cost rate of x^2 / 2 [1/s]."""
    N: float = 1.0
    """Cost rate of u^2 / 2 [1/s]."""
    R: float = 0.1
    """Cost rate of x u [1/s]."""
    P: float = 0.2
    """Cost rate of x [1/s]."""
    Q: float = 0.3
    """Cost rate of u [1/s]."""
    temperature: float = 0.2
    """Weight of the policy's entropy in the closed forms and the agents; `reward_rate` leaves it out [reward]."""
    discount_rate: float = 0.7
    """beta [1/s]; 0 means that the reward per second counts."""
    dt: float = 0.01
    """Control interval [s]."""
    substeps: int = 1
    """Euler-Maruyama steps per control interval."""
    horizon: float = 10.0
    """Length of an episode [s]; reaching it truncates. It may be inf."""
    x0: float = 0.0
    """Mean of the initial state."""
    initial_sd: float = 1.0
    """Standard deviation of the initial state."""
    action_bound: float = 3.0
    """Actions in [-bound, bound] are declared to Gymnasium; the dynamics do not clip."""


ERGODIC = ScalarLqrConfig(
    A=-1.0, B=0.0, C=0.0, D=1.0, M=2.0, N=2.0, R=1.0, P=1.0, Q=2.0,
    temperature=0.1, discount_rate=0.0, horizon=math.inf, initial_sd=0.0,
)  # fmt: skip
"""The ergodic problem of Jia and Zhou, JMLR 23(275), 2022: optimal reward per second .6585, with entropy .6334."""

LQ_B = ScalarLqrConfig(
    A=0.5, B=1.0, C=0.0, D=0.0, sigma=0.5, M=1.0, N=1.0, R=0.0, P=0.0, Q=0.0,
    temperature=0.1, discount_rate=0.5, initial_sd=0.5,
)  # fmt: skip
"""Additive noise and an unstable drift: the sampled-data bias of every method is of first order in dt and known."""


class ScalarLqr(ControlledDiffusion):
    """A scalar state pushed by a scalar action, both scaling the noise.

    ## Dynamics
    dX = (A X + B u) dt + (C X + D u) dW + sigma dB

    ## Observation and action
    | num | observation | low  | high | unit |     | num | action | low | high | unit |
    |-----|-------------|------|------|------|-----|-----|--------|-----|------|------|
    | 0   | X           | -inf | inf  | none |     | 0   | u      | -3  | 3    | none |

    The action bounds are declared, not enforced: the closed forms below hold without clipping.

    ## Reward
    r = -(M X^2 / 2 + R X u + N u^2 / 2 + P X + Q u) per second, to be maximised. A temperature adds entropy to the
    value, never to `reward_rate`.

    ## Start and end
    X_0 ~ N(x0, initial_sd^2). An episode never terminates; `horizon` truncates it.

    ## Closed form
    V(x) = k2 x^2 / 2 + k1 x + k0 with G = N - k2 D^2 and s = B + C D:

        beta k2 = (k2 s - R)^2 / G + k2 (2 A + C^2) - M                the negative root
        beta k1 = (k1 B - Q) (k2 s - R) / G + k1 A - P
        beta k0 = (k1 B - Q)^2 / (2 G) + sigma^2 k2 / 2 + (temperature / 2) log(2 pi temperature / G)

    The optimal policy is N(((k2 s - R) x + k1 B - Q) / G, temperature / G). With beta = 0 the right-hand side of the
    last line is the reward per second. `solution` gives all of it; `value_of_policy` and
    `average_reward` take any linear policy.

    ## Parameters
    `ScalarLqrConfig()` is "rlcore/ScalarLqr-v0", `ERGODIC` is "rlcore/ErgodicLqr-v0", `LQ_B` is "rlcore/LqrB-v0".

    Source: Wang, Zariphopoulou and Zhou, JMLR 21(198), 2020; Jia and Zhou, JMLR 23(275), 2022.
    """

    def __init__(
        self,
        config: ScalarLqrConfig = ScalarLqrConfig(),
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        k = config
        for name in ("A", "B", "C", "D", "sigma", "M", "N", "R", "P", "Q", "x0"):
            check_numbers(name, getattr(k, name))
        check_not_negative("temperature", k.temperature)
        check_not_negative("initial_sd", k.initial_sd)
        check_positive("action_bound", k.action_bound)
        self.config = config
        self._multiplicative, self._additive = (k.C, k.D) != (0.0, 0.0), k.sigma != 0.0
        spec = ControlSpec(
            "rlcore/ScalarLqr-v0",
            state_dim=1,
            action_dim=1,
            noise_dim=self._multiplicative + self._additive,
            dt=k.dt,
            horizon=k.horizon,
            discount_rate=k.discount_rate,
            action_low=-k.action_bound,
            action_high=k.action_bound,
        )
        super().__init__(spec, EulerMaruyama(k.substeps), dtype=dtype, device=device)
        # a product with a tensor of one number takes half as long as one with a Python number
        self._zero, self._A, self._C = (torch.tensor(v, dtype=dtype, device=self.device) for v in (0.0, k.A, k.C))

    def initial_state(self, noise: Tensor) -> EnvState:
        t = torch.zeros(noise.shape[0], dtype=torch.float64, device=noise.device)
        return EnvState(t, self.config.x0 + self.config.initial_sd * noise)

    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # [B], [B, 1], [B, 1] -> [B, 1]
        return torch.add(self._A * x, u, alpha=self.config.B)

    def diffusion(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # -> [B, 1, w]
        parts = []
        if self._multiplicative:
            parts.append(torch.add(self._C * x, u, alpha=self.config.D))
        if self._additive:
            parts.append(torch.full_like(x, self.config.sigma))
        if not parts:
            return x.new_zeros(x.shape[0], 1, 0)
        return parts[0].unsqueeze(-1) if len(parts) == 1 else torch.stack(parts, dim=-1)

    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # -> [B]
        k = self.config
        rate = torch.addcmul(self._zero, x, x, value=-0.5 * k.M)  # fused multiply-adds: half the calls of the plain sum
        rate = torch.addcmul(rate, u, u, value=-0.5 * k.N)
        rate = torch.addcmul(rate, x, u, value=-k.R) if k.R else rate
        rate = torch.add(rate, x, alpha=-k.P) if k.P else rate
        return (torch.add(rate, u, alpha=-k.Q) if k.Q else rate).squeeze(-1)

    def problem(self) -> LqProblem:
        """The coefficients as matrices."""
        k = self.config
        one: dict[str, Any] = {name: [[getattr(k, name)]] for name in ("A", "B", "sigma", "M", "N", "R")}
        one |= {"C": [[[k.C]]], "D": [[[k.D]]], "P": [k.P], "Q": [k.Q]}
        return LqProblem(**one, temperature=k.temperature, discount_rate=k.discount_rate)

    def solution(self) -> LqSolution:
        """The exact optimum: K = [[k2]], k = [k1], k0, and the policy's gain, offset and covariance."""
        return solve_stationary(self.problem())

    def optimal_value(self, x: Tensor) -> Tensor:  # [B, 1] -> [B]
        """V(x); where the discount rate is 0, the relative value with V(0) = 0."""
        return torch.as_tensor(self.solution().value(x.double().cpu().numpy()), dtype=x.dtype, device=x.device)

    def optimal_policy(self) -> GaussianFeedback:
        """The exact optimum as a policy."""
        best = self.solution()
        gain, offset, sd = best.gain.item(), best.offset.item(), math.sqrt(best.covariance.item())
        return GaussianFeedback(lambda obs: gain * obs + offset, sd, noise_dim=1)

    def value_of_policy(self, gain: float, offset: float, variance: float) -> LqSolution:
        """Exact value of u ~ N(gain x + offset, variance), entropy included."""
        return evaluate_linear_gaussian(self.problem(), [[gain]], [offset], [[variance]])

    def average_reward(self, gain: float, offset: float, variance: float) -> float:
        """Exact long-run reward per second of u ~ N(gain x + offset, variance), without entropy and discount."""
        return average_reward(self.problem(), [[gain]], [offset], [[variance]])
