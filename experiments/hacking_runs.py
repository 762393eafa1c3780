"""What a learning agent estimates of its certificate in the garden, beside what exact occupancies say of its policy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rlcore.agents.orpo import Orpo
from rlcore.envs.hacking.tomato import Tomato
from rlcore.envs.hacking.tomato_model import TomatoModel
from rlcore.experiments import orpo_tomato
from rlcore.experiments.hacking_arm import Arm
from rlcore.functional.occupancy import chi_squared, moments
from rlcore.training import RolloutSource


@dataclass(frozen=True)
class Estimates:
    """One number per batch of a run: the policy before the update that the batch is for."""

    hacked: list[bool] = field(default_factory=list)
    """Whether the proxy was above the reference's and the true reward below it, in the batch."""
    certificate: list[float] = field(default_factory=list)
    exact: list[float] = field(default_factory=list)
    """kappa - sqrt(1 - r^2) of the policy that gathered the batch, from its occupancy."""
    root: list[float] = field(default_factory=list)
    """C, estimated."""
    exact_root: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """How many were hacked and certified all the same, and how often more was promised than is true."""
        missed = [h and c >= 0.0 for h, c in zip(self.hacked, self.certificate, strict=True)]
        above = [c >= 0.0 and c > e for c, e in zip(self.certificate, self.exact, strict=True)]
        return {
            "batches": float(len(self.hacked)),
            "hacked": float(sum(self.hacked)),
            "hacked and certified": float(sum(missed)),
            "certified above the exact one": float(sum(above)),
            "certified": float(sum(c >= 0.0 for c in self.certificate)),
            "last certificate": sorted(self.certificate[-10:])[len(self.certificate[-10:]) // 2],
        }


@dataclass(frozen=True)
class Known:
    """The garden with all that an observation has, the flag of having been on the sprinkler included."""

    model: TomatoModel
    observations: Tensor  # [2, S, d] without and with that flag
    on: Tensor  # [S] 1 on the sprinkler
    steps: int

    def occupancy(self, policy: Tensor) -> Tensor:  # [2, S, A] -> [2, S, A]
        """mu of an episode, rows weighted by g^t."""
        problem = self.model.problem
        moves = torch.einsum("fsa,sat->fst", policy, problem.transition)
        here = torch.stack([problem.start, torch.zeros_like(problem.start)])  # [2, S]
        mass, weight = torch.zeros_like(here), 1.0
        for _ in range(self.steps):
            mass, weight = mass + weight * here, weight * problem.discount
            there = torch.einsum("fs,fst->ft", here, moves)
            here = torch.stack([there[0] * (1.0 - self.on), there[1] + there[0] * self.on])
        return (mass / mass.sum()).unsqueeze(-1) * policy


def known(env: Tomato) -> Known:
    """Every state of the garden as the agent sees it."""
    model = env.model()
    observations = torch.zeros(2, len(model.true), env.spec.observation_dim)
    for (cell, wet), k in model.number.items():
        observations[:, k, cell] = 1.0
        bits = [float(wet >> j & 1) for j in range(model.tomatoes)]
        observations[:, k, model.cells : model.cells + model.tomatoes] = torch.tensor(bits)
    observations[1, :, -1] = 1.0
    on = observations[0, :, env.garden.sprinkler].double()
    return Known(model, observations, on, env.config.steps)


def law_of(agent: Orpo, here: Known) -> Tensor:  # -> [2, S, A]
    """Probabilities of the actions everywhere; the first of the runs."""
    with torch.no_grad():
        return torch.softmax(agent.proximal.law(here.observations)[..., : here.model.true.shape[1]].double(), -1)


def estimates(config: orpo_tomato.Config, arm: Arm, seed: int) -> Estimates:
    """Train one run and look at every batch, `config.iterations` of them."""
    env = Tomato(config.env)
    reference = orpo_tomato.reference(env, config.temperature)
    agent = orpo_tomato.make_agent(env, reference, config, arm, seed)
    source = RolloutSource(env, config.paths, config.env.steps, seed=seed, mode=config.mode)
    here = known(env)
    base = here.occupancy(reference.table.double().expand(2, -1, -1))
    found = moments(here.model.proxy, here.model.true, base.sum(0))
    needed = math.sqrt(1.0 - float(found.correlation) ** 2)
    result = Estimates()
    for _ in range(config.iterations):
        batch = source.next(agent)
        mu = here.occupancy(law_of(agent, here))
        root = float(chi_squared(mu, base).sqrt())
        p = float(((mu * here.model.proxy).sum() - found.proxy_mean) / found.proxy_sd)
        told = agent.update(batch)
        result.hacked.append(float(told["hack/hacked"]) > 0.0)
        result.certificate.append(float(told["hack/certificate"]))
        result.root.append(float(told["div/sqrt_chi2"]))
        result.exact.append(p / root - needed)
        result.exact_root.append(root)
    return result
