"""What our steps of WSRL and Cal-QL are timed beside: lists of modules, the way published PyTorch code has them.

Every critic is evaluated by itself, every slow critic too, of which some are then picked; Adam goes tensor by tensor.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlcore.data import Transitions

ACTIONS_SAMPLED = 10  # of each kind, in the regulariser and in the target


class ModuleListWsrl:
    """The online step: four critic updates of the least of two slow critics, then one of policy and temperature."""

    def __init__(self, observations: int, actions: int, width: int, *, critics: int = 10, device: str = "cpu") -> None:
        def mlp(inputs: int, outputs: int, norm: bool) -> nn.Sequential:
            layers: list[nn.Module] = []
            for before in (inputs, width):
                layers += [nn.Linear(before, width), *([nn.LayerNorm(width)] if norm else []), nn.ReLU()]
            return nn.Sequential(*layers, nn.Linear(width, outputs))

        self.actions, self.device = actions, device
        inputs = observations + actions
        self.actor = mlp(observations, 2 * actions, False).to(device)
        self.critics, self.targets = (
            nn.ModuleList(mlp(inputs, 1, True) for _ in range(critics)).to(device) for _ in range(2)
        )
        self.targets.load_state_dict(self.critics.state_dict())
        self.log_temperature = nn.Parameter(torch.zeros((), device=device))
        self.adam = {
            "critic": torch.optim.Adam(self.critics.parameters(), lr=3e-4),
            "actor": torch.optim.Adam(self.actor.parameters(), lr=1e-4),
            "temperature": torch.optim.Adam([self.log_temperature], lr=1e-4),
        }

    def draw(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """An action and its log-density."""
        mean, log_scale = self.actor(obs).chunk(2, -1)
        normal = torch.distributions.Normal(mean, log_scale.clamp(-11.5, 2.3).exp())
        z = normal.rsample()
        slope = 2.0 * (0.6931471805599453 - z - nn.functional.softplus(-2.0 * z))
        log_normal: Tensor = normal.log_prob(z)  # type: ignore[no-untyped-call]
        return torch.tanh(z), (log_normal - slope).sum(-1)

    def q(self, networks: nn.ModuleList, obs: Tensor, action: Tensor) -> Tensor:
        """Q of every member [E, N]."""
        x = torch.cat([obs, action], -1)
        return torch.stack([network(x).squeeze(-1) for network in networks])

    def step(self, name: str, loss: Tensor) -> None:
        """One step of the optimiser."""
        self.adam[name].zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.adam[name].step()

    def update(self, batch: Transitions) -> None:
        """Four critic steps, then one of policy and temperature."""
        for k in range(4):
            rows = batch[slice(256 * k, 256 * (k + 1))]
            with torch.no_grad():
                q = self.q(self.targets, rows.next_obs, self.draw(rows.next_obs)[0])
                target = rows.reward + rows.discount * q[torch.randint(len(self.targets), (2,))].min(0).values
            self.learn_critics((self.q(self.critics, rows.obs, rows.action) - target).square().mean())
        self.learn_policy(batch)

    def learn_critics(self, loss: Tensor) -> None:
        """One step of the critics, after which their slow copies follow."""
        self.step("critic", loss)
        with torch.no_grad():
            for slow, fast in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
                slow.lerp_(fast, 0.005)

    def learn_policy(self, batch: Transitions) -> None:
        """One step of policy and temperature."""
        action, log_prob = self.draw(batch.obs)
        temperature = nn.functional.softplus(self.log_temperature)
        q = self.q(self.critics, batch.obs, action).min(0).values
        self.step("actor", (temperature.detach() * log_prob - q).mean())
        self.step("temperature", temperature * (-log_prob.detach().mean() + self.actions))


class ModuleListCalQl(ModuleListWsrl):
    """The offline step: the best of ten next actions, log-sum-exp over thirty, bounded by the returns of the data."""

    def update(self, batch: Transitions) -> None:
        """One step of critics, policy and temperature."""
        count, n = len(batch), ACTIONS_SAMPLED
        here, after = (x.repeat_interleave(n, 0) for x in (batch.obs, batch.next_obs))  # [N n, d]
        with torch.no_grad():
            uniform = 2.0 * torch.rand(count * n, self.actions, device=self.device) - 1.0
            (now, now_density), (then, then_density) = self.draw(here), self.draw(after)
            ahead = self.q(self.targets, after, self.draw(after)[0]).view(-1, count, n)
            target = batch.reward + batch.discount * ahead.min(0).values.max(1).values
        bound = batch.extras["mc_return"].unsqueeze(1)
        columns = [self.q(self.critics, here, uniform).view(-1, count, n) + self.actions * 0.6931471805599453]
        for action, density in ((now, now_density), (then, then_density)):
            q = self.q(self.critics, here, action).view(-1, count, n)
            columns.append(torch.maximum(q, bound) - density.view(count, n))
        data = self.q(self.critics, batch.obs, batch.action)
        gap = torch.logsumexp(torch.cat(columns, 2), 2) - data
        self.learn_critics((data - target).square().mean() + 5.0 * gap.mean())
        self.learn_policy(batch)
