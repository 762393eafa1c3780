"""Control: ergodic LQ, robustness to dt, the bias of sampled data, off-policy learning, and two exact identities.

The published protocol follows one path for T seconds at lr / max(1, log t). Rows 10, 11 and 13 share the parameters
over 1000 paths of T / 1000 seconds each, at a rate whose integral over time is the published one: about .45 for lr
.001 and T = 10^6, .35 for 2 x 10^5, .1 (constant) for 10^5. Experience, and noise per update, are then about the
same.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from numpy.polynomial.hermite_e import hermegauss
from scipy.optimize import least_squares
from torch import Tensor

from rlcore.agents.martingale import QLearning, QLearningConfig
from rlcore.data import Transitions
from rlcore.envs.control.lqr import LQ_B, ScalarLqr, ScalarLqrConfig
from rlcore.experiments import ergodic_lq, off_policy_q
from rlcore.experiments.ergodic_lqr import action_features
from rlcore.functional.linear_quadratic import entropy_rate, hamiltonian
from rlcore.nn.gaussian import Gaussian
from rlcore.nn.mlp import LinearInFeatures
from rlcore.nn.quadratic_q import QuadraticQ
from rlcore.reporting.acceptance import Measurement, row


def listed(values: list[float], form: str = ".4f") -> str:
    """Numbers with commas."""
    return ", ".join(format(value, form) for value in values)


@row(
    "martingale",
    "10",
    "ergodic LQ, T = 10^6 s, lr .001, dt .1: gain, offset, variance, V, policy reward of actor-critic and q-learning",
    "see expected",
)
def ergodic() -> Measurement:
    """q-learning with ten times the rate on the log-curvature."""
    passed, found = True, []
    for name in ("actor-critic", "q-learning"):
        result = ergodic_lq.train(name, replace(ergodic_lq.PRESETS["paper"], dt=0.1, evaluations=1), seed=0)
        got = [result[f"eval/{key}"] for key in ergodic_lq.PARAMETERS]
        got += [result["train/average_reward"], result["eval/average_reward"]]
        truth = zip(got[:4], (-0.3542, -0.7085, 0.03542, 0.6334), (0.04, 0.02, 0.001, 0.005), strict=True)
        passed &= all(abs(g - e) <= tolerance for g, e, tolerance in truth) and got[4] >= 0.655
        found.append(f"{name}: {listed(got)}")
    return Measurement("-.354 ± .04, -.708 ± .02, .0354 ± .001, .633 ± .005, >= .655", "; ".join(found), passed)


@row(
    "martingale",
    "11",
    "dt 1 to .01 at equal T = 10^5 s, lr .001: reward of actor-critic and q-learning stays, that of big-Q SARSA falls",
    "<= .01, <= .01, >= 1.0",
)
def invariance() -> Measurement:
    """All from N(0, 1), which earns -1.5; the rate is constant, as long as the published falling one in sum."""
    table = {}
    for name in ergodic_lq.AGENTS:
        settings = [
            ergodic_lq.Config(dt=dt, seconds=100.0, rate=0.1, scale_factor=1.0, decay=False, evaluations=1)
            for dt in (1.0, 0.1, 0.01)
        ]
        table[name] = [ergodic_lq.train(name, config, seed=0)["eval/average_reward"] for config in settings]
    spread = {name: max(rewards) - min(rewards) for name, rewards in table.items()}
    passed = max(spread["actor-critic"], spread["q-learning"]) <= 0.01
    passed &= table["big-Q SARSA"][0] - table["big-Q SARSA"][2] >= 1.0
    got = "; ".join(f"{name}: {listed(rewards)}" for name, rewards in table.items())
    return Measurement("spread <= .01 (actor-critic, q-learning), fall >= 1.0 (big-Q SARSA)", got, passed)


def quadratic(x: Tensor) -> Tensor:  # [..., 1] -> [..., 2]
    """(x^2 / 2, 1), which span the value of LQ-B."""
    return torch.cat([0.5 * x**2, torch.ones_like(x)], dim=-1)


def lq_b_agent() -> QLearning:
    """q-learning for LQ-B in float64, with the features of the solution."""
    value = LinearInFeatures(quadratic, 2, dtype=torch.float64)
    q = QuadraticQ(LinearInFeatures(torch.clone, 1, 1), 1, LQ_B.temperature)
    return QLearning(value, q, QLearningConfig(discount_rate=LQ_B.discount_rate)).double()


def exact_rows(dt: float) -> tuple[Transitions, Tensor]:
    """All outcomes of one sampled step on a grid of (x, a), as rows [nodes, grid], with their probabilities [nodes].

    The state moves exactly under the held action, X' = F x + G a + s Z; Gauss-Hermite nodes of Z make expectations of
    polynomials exact. The reward is the left rate times dt.
    """
    x, a = (grid.reshape(-1, 1) for grid in torch.meshgrid(*2 * [torch.linspace(-1, 1, 3).double()], indexing="ij"))
    drift = math.exp(LQ_B.A * dt)
    push, spread = (drift - 1.0) * LQ_B.B / LQ_B.A, LQ_B.sigma * math.sqrt((drift**2 - 1.0) / (2.0 * LQ_B.A))
    node, mass = hermegauss(4)
    z, probability = torch.as_tensor(node).reshape(-1, 1, 1), torch.as_tensor(mass / mass.sum())
    after = drift * x + push * a + spread * z  # [nodes, grid, 1]
    obs, action = x.expand_as(after), a.expand_as(after)
    step = torch.full(after.shape[:2], dt, dtype=torch.float64)
    reward = -0.5 * (LQ_B.M * obs**2 + LQ_B.N * action**2).squeeze(-1) * dt
    return Transitions(obs, action, reward, torch.exp(-LQ_B.discount_rate * step), after, step), probability


@cache
def sampled_data_fixed_point(dt: float) -> tuple[float, float, float, float]:
    """Where the agent's own increments have mean zero given every (x, a): k2, gain, variance, k0, minus the truth."""
    agent, (batch, probability), best = lq_b_agent(), exact_rows(dt), ScalarLqr(LQ_B).solution()
    assert isinstance(agent.q, QuadraticQ)
    vector = torch.nn.utils.vector_to_parameters

    def mean_increment(parameters: np.ndarray) -> np.ndarray:
        vector(torch.as_tensor(parameters), agent.parameters())
        with torch.no_grad():
            return (probability @ agent.residual(batch)[1]).numpy() / dt

    names = [name for name, _ in agent.named_parameters()]
    truth = {
        "value.theta": [best.K.item(), best.k0],
        "q.mean.theta": [best.gain.item()],
        "q.log_scale": [math.log(best.covariance.item() / LQ_B.temperature)],
    }
    start = np.concatenate([truth[name] for name in names])
    solution = least_squares(mean_increment, start, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    if np.abs(solution.fun).max() > 1e-9:
        raise ArithmeticError(f"no fixed point at dt = {dt}: the mean increment is {np.abs(solution.fun).max():.2g}")
    found = dict(zip(names, np.split(solution.x, np.cumsum([len(truth[name]) for name in names])[:-1]), strict=True))
    (k2, k0), gain = found["value.theta"], float(found["q.mean.theta"][0])
    variance = LQ_B.temperature * math.exp(float(found["q.log_scale"][0]))
    return k2 - best.K.item(), gain - best.gain.item(), variance - best.covariance.item(), k0 - best.k0


@row(
    "martingale",
    "12",
    "LQ-B: errors of the sampled-data fixed point of q-learning at dt .1, .05, .025 (k2, gain, variance, k0), exactly",
    "5 %; slopes 1 ± .1",
)
def sampled_data_bias() -> Measurement:
    """The figures hold for every behaviour policy: the mean increment vanishes at each (x, a)."""
    expected = {
        0.1: (-1.381e-2, 5.243e-2, -1.198e-2, -3.295e-2),
        0.05: (-6.859e-3, 2.669e-2, -6.193e-3, -1.629e-2),
        0.025: (-3.417e-3, 1.347e-2, -3.149e-3, -8.100e-3),
    }
    got = {dt: sampled_data_fixed_point(dt) for dt in expected}
    passed = all(abs(g / e - 1.0) <= 0.05 for dt in expected for g, e in zip(got[dt], expected[dt], strict=True))
    table = np.log(np.abs(np.array(list(got.values()))))  # [dt, quantity]
    slopes = np.polyfit(np.log(list(expected)), table, 1)[0]
    passed &= bool((np.abs(slopes - 1.0) <= 0.1).all())
    shown = "; ".join(listed(list(got[dt]), ".3e") for dt in expected) + f"; slopes {listed(list(slopes), '.3f')}"
    return Measurement("; ".join(listed(list(e), ".3e") for e in expected.values()), shown, passed)


@row(
    "martingale",
    "13",
    "off-policy q, T = 2 x 10^5 s, dt .1: N(0,1) plain and N(-x-1,1) bounded find the optimum (mean of 6 runs); "
    "N(±(x+1),1) plain diverge",
    "± .02, .02, .002; ± .01; 8 of 8",
)
def off_policy() -> Measurement:
    config = off_policy_q.Config(evaluations=1)
    truth = np.array((-0.3542, -0.7085, 0.03542))
    passed, found = True, []
    for name, tolerance in (("normal", (0.02, 0.02, 0.002)), ("inward-bounded", (0.01, 0.01, 0.01))):
        results = [off_policy_q.train(name, config, seed) for seed in range(6)]
        got = np.array([[result[f"eval/{key}"] for key in ergodic_lq.PARAMETERS] for result in results])
        passed &= bool((np.abs(got.mean(0) - truth) <= tolerance).all())
        found.append(f"{name}: {listed(list(got.mean(0)))} (s.d. {listed(list(got.std(0, ddof=1)))})")
    plain = [(n, seed) for n in ("inward-plain", "outward-plain") for seed in range(4)]
    count = sum(off_policy_q.train(name, config, seed)["diverged"] for name, seed in plain)
    passed &= count == len(plain)
    expected = "-.354, -.708, .0354 twice; 8 of 8 diverge"
    return Measurement(expected, "; ".join([*found, f"{count:.0f} of {len(plain)} diverge"]), passed)


Law = tuple[float, float, float]  # gain, offset, variance


def occupation(env: ScalarLqr, law: Law, x0: float) -> np.ndarray:
    """int_0^inf exp(-beta t) E (1, X_t, X_t^2) dt under u ~ N(gain x + offset, variance), from the moment equations."""
    k, (gain, offset, variance), beta = env.config, law, env.config.discount_rate
    drift, push, noise, jolt = k.A + k.B * gain, k.B * offset, k.C + k.D * gain, k.D * offset
    mass = 1.0 / beta
    first = (x0 + push * mass) / (beta - drift)
    second = x0**2 + (2.0 * push + 2.0 * noise * jolt) * first
    second += (jolt**2 + k.D**2 * variance + k.sigma**2) * mass
    return np.array([mass, first, second / (beta - 2.0 * drift - noise**2)])


def gaussian(law: Law) -> Gaussian:
    """The policy as a module, whose log-density is differentiated automatically."""
    mean = LinearInFeatures(action_features, 2, 1, dtype=torch.float64)
    policy = Gaussian(mean, 1).double()
    with torch.no_grad():
        mean.theta.copy_(torch.tensor([[law[0]], [law[1]]], dtype=torch.float64))
        policy.log_variance.fill_(math.log(law[2]))
    return policy


def nodes(law: Law) -> tuple[Tensor, Tensor, Tensor]:
    """States -1, 0, 1 with the Gauss-Hermite actions of the law there: x, a [3, nodes, 1] and weights [nodes]."""
    node, mass = hermegauss(12)
    x = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64).reshape(3, 1, 1).expand(3, len(node), 1)
    a = law[0] * x + law[1] + math.sqrt(law[2]) * torch.as_tensor(node).reshape(1, -1, 1)
    return x, a, torch.as_tensor(mass / mass.sum())


def integrate(env: ScalarLqr, law: Law, x0: float, at_states: Tensor) -> float:
    """int exp(-beta t) E f(X_t) dt for the quadratic f whose values at -1, 0, 1 are given."""
    coefficients = np.linalg.solve(np.vander([-1.0, 0.0, 1.0], 3, increasing=True), at_states.detach().numpy())
    return float(coefficients @ occupation(env, law, x0))


def little_q(env: ScalarLqr, law: Law, x: Tensor, a: Tensor) -> Tensor:  # [...]
    """q(x, a) = L^a J + r - beta J for the value J of the law, entropy included."""
    value = env.value_of_policy(*law)
    states, actions = x.numpy(), a.numpy()
    rate = hamiltonian(env.problem(), value, states, actions) - env.config.discount_rate * value.value(states)
    return torch.as_tensor(rate)


def policy_gradient(env: ScalarLqr, law: Law, x0: float) -> tuple[float, float]:
    """dJ(x0)/d(gain, variance) = int exp(-beta t) E {dlog pi (q + gamma H) + gamma dH} dt."""
    policy, (x, a, weight), gamma = gaussian(law), nodes(law), env.config.temperature
    q = little_q(env, law, x, a) + gamma * policy.entropy().detach()
    climbed = (policy.log_prob(x, a) * q) @ weight + gamma * policy.entropy()  # [3]; dt = 1: rates
    assert isinstance(policy.mean, LinearInFeatures)
    parameters = (policy.mean.theta, policy.log_variance)
    slopes = [torch.autograd.grad(c, parameters, retain_graph=True) for c in climbed]
    gain = integrate(env, law, x0, torch.stack([mean[0, 0] for mean, _ in slopes]))
    logarithm = integrate(env, law, x0, torch.stack([spread[0] for _, spread in slopes]))
    return gain, logarithm / law[2]


def difference_quotient(env: ScalarLqr, law: Law, x0: float, component: int, h: float = 1e-5) -> float:
    """Central difference of the exact value in one parameter of the law."""
    values = []
    for sign in (1.0, -1.0):
        moved = list(law)
        moved[component] += sign * h
        values.append(float(env.value_of_policy(*moved).value([x0])))
    return (values[0] - values[1]) / (2.0 * h)


def performance_difference(env: ScalarLqr, law: Law, other: Law, x0: float) -> tuple[float, float]:
    """J'(x0) - J(x0) directly, and as int exp(-beta t) E' {q(X, a; pi) - gamma log pi'(a | X)} dt under pi'."""
    (x, a, weight), gamma = nodes(other), env.config.temperature
    gained = (little_q(env, law, x, a) @ weight) + entropy_rate(gamma, np.array([[other[2]]]))
    values = [float(env.value_of_policy(*one).value([x0])) for one in (other, law)]
    return values[0] - values[1], integrate(env, other, x0, gained)


@row(
    "martingale",
    "14",
    "policy gradient (gain, variance) by its formula and by finite differences; performance difference, both sides",
    "1e-6",
)
def identities() -> Measurement:
    env, law, x0 = ScalarLqr(ScalarLqrConfig()), (-0.6, -0.1, 0.2), 0.8
    formula = policy_gradient(env, law, x0)
    quotient = [difference_quotient(env, law, x0, component) for component in (0, 2)]
    direct, integral = performance_difference(env, law, (-0.9, -0.3, 0.15), x0)
    expected = [-0.12844279, -0.08838558, *quotient, 0.03342280814535, direct]
    got = [*formula, *formula, integral, integral]
    passed = all(abs(g - e) <= 1e-6 for g, e in zip(got, expected, strict=True))
    return Measurement(listed(expected, ".8f"), listed(got, ".8f"), passed)
