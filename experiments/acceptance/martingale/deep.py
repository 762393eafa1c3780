"""Deep agents: what the control interval does to them, and how near their costs come to the HJB equation's."""

from __future__ import annotations

from functools import cache

from rlcore.experiments import pendulum_hjb, time_step_sweep
from rlcore.reporting.acceptance import Measurement, at_least, at_most, row
from rlcore.reporting.statistics import interquartile_mean

SYSTEM = "martingale"
SEEDS = range(3)
COARSE, FINE = 0.05, 0.001  # s


@cache
def mean_score(agent: str, dt: float) -> float:
    """Interquartile mean of the pendulum's score after training, 0 idle and 1 optimal, judged at one fine step."""
    config = time_step_sweep.PRESETS["quick"]
    return float(interquartile_mean([time_step_sweep.train(agent, dt, config, 1000 * seed) for seed in SEEDS]))


def kept(agent: str) -> float:
    """Share of the score at 50 ms that is left at 1 ms, at equal physical time and updates."""
    return mean_score(agent, FINE) / mean_score(agent, COARSE)


@row(
    SYSTEM,
    "16",
    "pendulum, equal time and updates, 3 seeds: share of the score at 50 ms left at 1 ms, worst of our three agents",
    "95 %",
    slow=True,
)
def deep_agents_do_not_mind_the_step() -> Measurement:
    return at_least(min(kept(agent) for agent in time_step_sweep.OURS), 0.95)


@row(
    SYSTEM,
    "16-level",
    "pendulum at 1 ms, 3 seeds: score of CT-SAC, CT-DDPG and CPPO, the worst; 0 is idle, 1 optimal",
    "0.93",
    slow=True,
)
def deep_agents_are_good_at_a_fine_step() -> Measurement:
    return at_least(min(mean_score(agent, FINE) for agent in time_step_sweep.OURS), 0.93)


@row(
    SYSTEM,
    "16-naive",
    "the same share for Stable-Baselines3's SAC with gamma and noise per step",
    "60 %",
    slow=True,
)
def naive_sac_minds_the_step() -> Measurement:
    return at_most(kept("sac-naive"), 0.6)


@row(
    SYSTEM,
    "18",
    "pendulum, CT-DDPG, 3 seeds: cost of the policy from (pi/2, 0) over 3.73 and from (pi, 0) over 6.75, worst of each",
    "2 %, 3 %",
    slow=True,
)
def costs_of_the_hjb_equation() -> Measurement:
    config = pendulum_hjb.PRESETS["quick"]
    costs = [pendulum_hjb.point_costs(pendulum_hjb.train(config, seed), config)["rollout"] for seed in SEEDS]
    errors = {
        name: max(abs(cost[name] / known - 1.0) for cost in costs)
        for name, known in (("level", 3.73), ("hanging", 6.75))
    }
    passed = errors["level"] <= 0.02 and errors["hanging"] <= 0.03
    return Measurement("0.02, 0.03", f"{errors['level']:.4f}, {errors['hanging']:.4f}", passed)
