"""A q-function of any form in the action that satisfies the consistency constraint for a given policy.

    q(x, a) = A(x, a) - E_{a' ~ pi(x)}[A(x, a') - gamma log pi(a' | x)],   so that   E_pi[q - gamma log pi] = 0

The expectation is a fixed quadrature rule over the policy's noise. With gamma = 0 and a deterministic policy mu it is
A(x, a) - A(x, mu(x)).
Source: Jia and Zhou, "q-Learning in continuous time", JMLR 24 (2023) 161, the consistency condition; Tallec, Blier and
Ollivier, "Making deep Q-learning methods robust to time discretization", ICML 2019, for the deterministic form.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlcore.nn.squashed import Cloud


class NormalisedQ(nn.Module):
    """q from an unconstrained advantage network A(cat(x, a))."""

    def __init__(self, advantage: nn.Module) -> None:
        super().__init__()
        self.advantage = advantage  # [*, d + m] -> [*]

    def raw(self, obs: Tensor, action: Tensor) -> Tensor:  # [*, d], [*, m] -> [*]
        """A(x, a)."""
        return self.advantage(torch.cat([obs, action], dim=-1))  # type: ignore[no-any-return]

    def mean(self, obs: Tensor, cloud: Cloud, temperature: float) -> Tensor:  # [*, d] -> [*]
        """E_pi[A - gamma log pi]."""
        return (self._at(obs, cloud.action) - temperature * cloud.log_density) @ cloud.weight

    def forward(self, obs: Tensor, action: Tensor, cloud: Cloud, temperature: float) -> Tensor:
        every = self._at(obs, torch.cat([action.unsqueeze(-2), cloud.action], dim=-2))  # [*, 1 + J], in one pass
        return every[..., 0] - (every[..., 1:] - temperature * cloud.log_density) @ cloud.weight

    def _at(self, obs: Tensor, actions: Tensor) -> Tensor:  # [*, d], [*, J, m] -> [*, J]
        return self.raw(obs.unsqueeze(-2).expand(*actions.shape[:-1], obs.shape[-1]), actions)
