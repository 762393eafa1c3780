"""What happens to critics when the data they were trained on are gone: Q, TD error and bias on a held-out batch.

They use a random stream of their own and change nothing, so that a run is bit for bit the same with them and without.
Source: Zhou et al., ICLR 2025, section 4, for the quantities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlcore.agents.actor_critic.networks import HasNetworks
from rlcore.data import Transitions
from rlcore.functional.losses import least_of, td_target


@torch.no_grad()
def diagnose(agent: HasNetworks, held_out: Transitions, *, seed: int = 0) -> dict[str, Tensor]:  # rows [N, ...] -> [S]
    """Means over the rows, for each seed of the agent:

    - `q`, over all critics too
    - `td_error`, of (Q_i - r - exp(-beta dt) (1 - terminated) min_i Qbar_i(x', u'))^2, u' ~ pi(x')
    - `bias`, of Q minus the return in the data, if the extras hold `mc_return`
    - `entropy` of the policy on the unit box, and the largest `q_spread` over the critics

    The noise is the same at every call.
    """
    net, rows = agent.networks, held_out.flatten()
    if net.seeds > 1:
        rows = rows.map(lambda x: x.unsqueeze(0).expand(net.seeds, *x.shape))
    rows = net.rows(rows)
    generator = torch.Generator(rows.obs.device).manual_seed(seed)

    def noise() -> Tensor:
        drawn = torch.randn(rows.action.shape[1:], generator=generator, device=rows.obs.device, dtype=rows.obs.dtype)
        return drawn.expand_as(rows.action)

    q = net.q(rows.obs, rows.action)  # [S, E, N]
    _, log_prob = net.policy.sample(rows.obs, noise())
    next_action, _ = net.policy.sample(rows.next_obs, noise())
    target = td_target(rows.reward, rows.discount, least_of(net.target_q(rows.next_obs, next_action)))
    found = {
        "q": q.mean((1, 2)),
        "td_error": ((q - target.unsqueeze(1)) ** 2).mean((1, 2)),
        "entropy": -log_prob.mean(1),
        "q_spread": (q.amax(1) - q.amin(1)).mean(1),
    }
    if "mc_return" in rows.extras:
        found["bias"] = (q - rows.extras["mc_return"].unsqueeze(1)).mean((1, 2))
    return found
