"""Occupancies, bounds and exact optima: what needs no learning."""

from __future__ import annotations

import math

import torch

from rlcore.envs.hacking.tomato import Tomato
from rlcore.envs.hacking.tomato_model import TomatoModel
from rlcore.experiments.hacking_certificate import Config, Draws, ascend, random_problems
from rlcore.functional.divergence import kl
from rlcore.functional.occupancy import (
    FiniteProblem,
    adversarial_reward,
    best_lambda,
    bound_t,
    chi_squared,
    maxmin_reward,
    moments,
    penalty,
    policy_of,
    regularised_occupancy,
    two_states,
)
from rlcore.reporting.acceptance import Measurement, at_most, each_within, row

SYSTEM, DOUBLE = "orpo", torch.float64


def problem(seed: int, states: int = 6, actions: int = 3) -> tuple[FiniteProblem, torch.Tensor, torch.Tensor]:
    """A random problem, and the logits of a policy and of a reference."""
    generator = torch.Generator().manual_seed(seed)

    def logits(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=DOUBLE, generator=generator)

    transition = torch.softmax(logits(states, actions, states), -1)
    found = FiniteProblem(transition, torch.softmax(logits(states), -1), 0.95)
    return found, logits(states, actions), logits(states, actions)


def draws() -> Draws:
    """Random problems of all sizes, 12 000 of them before those without a correlation are left out."""
    return random_problems(Config(draws=13_000), seed=0)


@row(SYSTEM, "bounds", "violations of A, B, T, |p| <= C and sign(A) = sign(T), 10 000 or more random problems", "0")
def bounds() -> Measurement:
    found = draws().figures()
    wrong = sum(v for n, v in found.items() if n.startswith("violations") or "apart" in n or "below" in n or "|p|" in n)
    enough = found["draws"] >= 10_000
    return Measurement("0 of >= 10000", f"{wrong:.0f} of {found['draws']:.0f}", bool(wrong == 0 and enough))


@row(SYSTEM, "certified", "policies with kappa >= sqrt(1 - r^2) that lower the true reward", "0")
def certified() -> Measurement:
    found = draws().figures()
    got = f"{found['certified and worse']:.0f} of {found['certified']:.0f}"
    return Measurement("0 of > 100", got, found["certified and worse"] == 0 and found["certified"] > 100)


@row(SYSTEM, "adversary", "the adversarial true reward attains bound T, 500 problems", "1e-10")
def adversary() -> Measurement:
    worst = 0.0
    for seed in range(500):
        here, logits, reference = problem(seed)
        mu, base = (here.occupancy(torch.softmax(x, -1)) for x in (logits, reference))
        proxy = torch.randn(mu.shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed + 10_000))
        r = 0.05 + 0.9 * (seed / 500.0)
        known = moments(proxy, adversarial_reward(mu, base, proxy, r), base)
        p = ((mu * proxy).sum() - known.proxy_mean) / known.proxy_sd
        y = (mu * adversarial_reward(mu, base, proxy, r)).sum() - known.true_mean
        worst = max(
            worst, abs(float(y - bound_t(p, chi_squared(mu, base).sqrt(), r))), abs(float(known.correlation) - r)
        )
    return at_most(worst, 1e-10)


@row(SYSTEM, "gradients", "penalties as rewards against central differences, 4 kinds; relative", "1e-6")
def gradients() -> Measurement:
    worst = 0.0
    for seed in range(10):
        here, logits, reference = problem(seed)
        base = here.occupancy(torch.softmax(reference, -1))
        proxy = torch.randn(base.shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))
        known = moments(proxy, proxy, base)
        x, r = (proxy - known.proxy_mean) / known.proxy_sd, 0.6
        direction = torch.randn(logits.shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed + 50))

        def parts(theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            mu = here.occupancy(torch.softmax(theta, -1))  # noqa: B023, called at once
            return mu, chi_squared(mu, base), (mu * x).sum()  # noqa: B023

        def values(theta: torch.Tensor) -> torch.Tensor:
            mu, chi2, p = parts(theta)
            tight = bound_t(p, chi2.sqrt(), r)  # noqa: B023
            return torch.stack([chi2.sqrt(), chi2, (mu * (mu / base).log()).sum(), -tight])  # noqa: B023

        mu, chi2, p = parts(logits)
        log_ratio, root = (mu / base).log(), chi2.sqrt()
        prices = [penalty("sqrt_chi2", log_ratio, root), penalty("chi2", log_ratio, root),
                  penalty("kl", log_ratio, root), -maxmin_reward(x, log_ratio, p, root, r)]  # fmt: skip
        step = 1e-5
        expected = (values(logits + step * direction) - values(logits - step * direction)) / (2.0 * step)
        policy = torch.softmax(logits, -1)
        for price, slope in zip(prices, expected, strict=True):
            q = here.action_values(policy, price)
            advantage = q - (policy * q).sum(-1, keepdim=True)
            found = (mu * advantage * direction).sum()  # the policy gradient theorem, times 1 - g over 1 - g
            worst = max(worst, abs(float(found / slope) - 1.0))
    return at_most(worst, 1e-6)


@row(
    SYSTEM,
    "two-states",
    "J before and after, KL on actions, KL and chi^2 on occupancies",
    "5e-4, 5e-4, 5e-4, 5e-3, 0.05",
)
def two_state_example() -> Measurement:
    here, reward, rare = two_states(1e-4)
    often = two_states(1e-2)[2]
    base, mu = here.occupancy(rare), here.occupancy(often)
    actions = float((mu.sum(-1) * kl(often.clamp(min=1e-300).log(), rare.clamp(min=1e-300).log())).sum())
    seen = mu > 0.0
    got = [float((base * reward).sum()), float((mu * reward).sum()), actions,
           float((mu[seen] * (mu[seen] / base[seen]).log()).sum()), float(chi_squared(mu, base))]  # fmt: skip
    return each_within(got, [0.990, 0.503, 0.018, 1.63, 24.8], [5e-4, 5e-4, 5e-4, 5e-3, 0.05])


@row(SYSTEM, "kl-blind", "mass 1/log^2(1/d) on an event of mass d = 1e-8: KL and sqrt(chi^2)", "5e-4, 0.05")
def kl_is_blind() -> Measurement:
    d = 1e-8
    m = 1.0 / math.log(1.0 / d) ** 2
    divergence = m * math.log(m / d) + (1.0 - m) * math.log((1.0 - m) / (1.0 - d))
    mu, base = (torch.tensor([x, 1.0 - x], dtype=DOUBLE) for x in (m, d))
    return each_within([divergence, float(chi_squared(mu, base).sqrt())], [0.034, 29.5], [5e-4, 0.05])


def garden(temperature: float = 0.15) -> tuple[TomatoModel, torch.Tensor, torch.Tensor]:
    """The published garden, a reference, and its occupancy."""
    model = Tomato().model()
    reference = model.softened(temperature)
    return model, reference, model.problem.occupancy(reference)


@row(
    SYSTEM,
    "tomato",
    "states; true optimum; proxy optimum and its true return; uniform true and proxy",
    "printed digits",
)
def tomato() -> Measurement:
    model = Tomato().model()
    both, here = (model.true, model.proxy), model.problem
    uniform = torch.full_like(model.true, 0.25)
    best = here.best(model.true)
    got = [float(len(model.true)), here.episode(best, model.true, steps=100)[0],
           *here.episode(here.best(model.proxy), *both, steps=100),
           *here.episode(uniform, *both, steps=100)]  # fmt: skip
    return each_within(got, [463.0, 9.74, 2.36, 47.36, 5.493, 5.950], [0.0, 5e-3, 5e-3, 5e-3, 5e-4, 5e-4])


@row(
    SYSTEM,
    "tomato-optimum",
    "cone program at lambda* = .0083, tau .15: true and proxy return",
    "0.05, 0.1",
    needs="cvxpy",
)
def tomato_optimum() -> Measurement:
    model, reference, base = garden()
    known = moments(model.proxy, model.true, base)
    strength = best_lambda(float(known.proxy_sd), float(known.correlation))
    mu = regularised_occupancy(model.problem, model.proxy, base, "sqrt_chi2", strength)
    got = model.problem.episode(policy_of(mu, reference), model.true, model.proxy, steps=100)
    return each_within([strength, *got], [0.0083, 9.51, 10.55], [5e-5, 0.05, 0.1])


@row(SYSTEM, "tomato-rivals", "true returns of the best max-min, KL and KL on actions, tau .15", "0.05", needs="cvxpy")
def tomato_rivals() -> Measurement:
    model, reference, base = garden()
    r = float(moments(model.proxy, model.true, base).correlation)
    got = []
    for kind, strength in (("maxmin", r), ("kl", 0.1), ("ad_kl", 2.0)):
        mu = regularised_occupancy(model.problem, model.proxy, base, kind, strength)  # type: ignore[arg-type]
        got.append(model.problem.episode(policy_of(mu, reference), model.true, steps=100)[0])
    return each_within(got, [9.53, 7.89, 7.85], [0.05] * 3)


@row(SYSTEM, "dead-zone", "uniform reference: the optimum at lambda* stays, true return", "0.01", needs="cvxpy")
def dead_zone() -> Measurement:
    model = Tomato().model()
    reference = torch.full_like(model.true, 0.25)
    base = model.problem.occupancy(reference)
    known = moments(model.proxy, model.true, base)
    strength = best_lambda(float(known.proxy_sd), float(known.correlation))
    mu = regularised_occupancy(model.problem, model.proxy, base, "sqrt_chi2", strength)
    got = model.problem.episode(policy_of(mu, reference), model.true, steps=100)[0]
    return each_within([got], [5.493], [0.01])


@row(
    SYSTEM,
    "detection",
    "points of exact ascents, 3 references, true below the reference and not flagged",
    "0",
    needs="cvxpy",
)
def detection() -> Measurement:
    missed = hacked = 0
    held: list[float] = []
    for temperature in (0.5, 0.25, 0.15):
        model, reference, base = garden(temperature)
        known = moments(model.proxy, model.true, base)
        strength = best_lambda(float(known.proxy_sd), float(known.correlation))
        config = Config(iterations=40)
        free, kept = (ascend(model.problem, model.proxy, model.true, reference, s, config)[0] for s in (0.0, strength))
        for path in (free, kept):
            below = [true < path.true[0] - 1e-6 for true in path.true]
            hacked += sum(below)
            missed += sum(b and c >= 0.0 for b, c in zip(below, path.certificate, strict=True))
        mu = regularised_occupancy(model.problem, model.proxy, base, "sqrt_chi2", strength)
        p = ((mu * model.proxy).sum() - known.proxy_mean) / known.proxy_sd
        kappa = float(p / chi_squared(mu, base).sqrt())
        held.append(kappa - math.sqrt(1.0 - float(known.correlation) ** 2))
    got = f"{missed} missed of {hacked}; least certificate of the optima at lambda* {min(held):.3f}"
    return Measurement("0 missed, certificates > 0", got, missed == 0 and hacked > 0 and min(held) > 0.0)
