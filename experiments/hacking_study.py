"""What a policy earns in both rewards, step by step: shared by the experiments on reward hacking.

python -m rlcore.experiments.hacking_study           what simple policies of glucose earn in 20 days
python -m rlcore.experiments.hacking_study FILE.png  how the environments draw themselves
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlcore.envs import make
from rlcore.envs.hacking.glucose import BG, Glucose
from rlcore.envs.hacking.glucose_policies import pid
from rlcore.envs.hacking.glucose_risk import HIGH, LOW
from rlcore.reporting.tables import print_rows
from rlcore.simulation import Feedback, Policy, begin, rollout
from rlcore.simulation.environment import Environment, EnvState, Renderable
from rlcore.simulation.stepping import noise_chunks


@dataclass(frozen=True, eq=False)
class Watched:
    """Rewards of B paths over K steps, without those on arrival; none after a termination."""

    proxy: Tensor  # [K, B]
    true: Tensor  # [K, B]
    ended: float
    """Share of the paths that terminated."""
    figures: dict[str, float]
    """Means over steps and paths of whatever was measured."""
    peaks: dict[str, float]
    """The largest values of the same."""

    @property
    def correlation(self) -> float:
        """Pearson correlation r of the two rewards over steps and paths; nan where one is constant."""
        return float(torch.corrcoef(torch.stack([self.proxy.flatten(), self.true.flatten()]))[0, 1])

    def totals(self) -> tuple[float, float]:
        """Mean proxy and mean true return of a path, undiscounted."""
        return float(self.proxy.sum(0).mean()), float(self.true.sum(0).mean())


@torch.no_grad()
def watch(
    env: Environment,
    policy: Policy,
    *,
    paths: int,
    steps: int,
    burn_in: int = 0,
    seed: int = 0,
    measure: Callable[[EnvState], dict[str, Tensor]] = lambda state: {},
) -> Watched:
    """Run a policy with its noise and keep both rewards of every step after the first `burn_in`."""
    stand = begin(env, paths, seed=seed)
    state, over = stand.env, torch.zeros(paths, dtype=torch.bool, device=env.device)
    proxy, true = torch.zeros(2, steps, paths, dtype=torch.float64, device=env.device)
    sums: dict[str, float] = {}
    peaks: dict[str, float] = {}
    for k, process, noise in noise_chunks(env, policy.noise_dim, stand, burn_in + steps):
        action = policy.act(env.observe(state), noise=noise)
        after, earned = env.transition(state, action, process)
        if k >= burn_in:
            proxy[k - burn_in] = torch.where(over, 0.0, earned)
            true[k - burn_in] = torch.where(over, 0.0, env.true_reward(state, action, after))
            for name, value in measure(after).items():
                sums[name] = sums.get(name, 0.0) + float(value.to(torch.float64).mean()) / steps
                peaks[name] = max(peaks.get(name, -math.inf), float(value.max()))
        over = over | env.terminated(after)
        state = after
    return Watched(proxy, true, float(over.double().mean()), sums, peaks)


def glucose_figures(state: EnvState) -> dict[str, Tensor]:
    """Mean glucose [mg/dL], and the shares of time in range and below it."""
    bg = state.x[:, BG]
    return {"bg": bg, "in_range": (bg >= LOW) & (bg <= HIGH), "hypo": bg < LOW}


def constant(action: float) -> Feedback:
    """The same action always."""
    return Feedback(lambda obs: torch.full_like(obs[:, :1], action))


def glucose(
    policy: Policy | None = None, *, legacy: bool = True, paths: int = 64, days: int = 20, seed: int = 0
) -> Watched:
    """adult#001 for some days after a first one, under the published PID controller or another policy."""
    env = make("rlcore/Glucose-v0", legacy=legacy, compiled=days > 5)
    assert isinstance(env, Glucose)
    chosen = pid(env) if policy is None else policy
    return watch(env, chosen, paths=paths, steps=288 * days, burn_in=288, seed=seed, measure=glucose_figures)


HEADERS = ("policy", "true", "proxy", "r", "BG", "in range", "hypo", "ended")


def record(name: str, found: Watched) -> tuple[str, ...]:
    """One row of a table of glucose."""
    (proxy, true), f = found.totals(), found.figures
    shares = (f"{f[key]:.2f}" for key in ("in_range", "hypo"))
    return (
        name,
        f"{true:.0f}",
        f"{proxy:.1f}",
        f"{found.correlation:.2f}",
        f"{f['bg']:.0f}",
        *shares,
        f"{found.ended:.2f}",
    )


def pictures() -> NDArray[np.uint8]:
    """Glucose, traffic, the epidemic and the market under simple policies, as they draw themselves, in a row."""
    from rlcore.envs.hacking.market import Market
    from rlcore.envs.hacking.pandemic import Pandemic
    from rlcore.envs.hacking.pandemic_policies import STRATEGIES, Follow
    from rlcore.envs.hacking.traffic import Traffic, idm_policy

    patient, market = Glucose(), Market()
    scenes: list[tuple[Environment, Policy, int]] = [
        (patient, pid(patient), 165),
        (Traffic(), idm_policy(), 120),
        (Pandemic(), Follow(STRATEGIES["Swedish"]), 60),
        (market, market.markowitz(), 200),
    ]
    drawn = []
    for env, policy, steps in scenes:
        assert isinstance(env, Renderable)
        drawn.append(env.render(rollout(env, policy, begin(env, 1, seed=1), steps)[1].env))
    return np.concatenate(drawn, axis=1)


def main() -> None:
    """Print the table of glucose; with the name of a file, draw the pictures instead."""
    if len(sys.argv) > 1:
        from matplotlib.pyplot import imsave

        imsave(sys.argv[1], pictures())
        return
    rows = [record("PID", glucose()), record("PID, corrected", glucose(legacy=False))]
    rows += [record(f"a = {a:.3f}", glucose(constant(a))) for a in (0.0, 1.0 / 43.2, 0.030, 0.034, 0.040)]
    print_rows(HEADERS, rows)


if __name__ == "__main__":
    main()
