"""Closed forms of alignment, and losses whose minimisers and gradients are known."""

import math

import pytest
import torch
from torch import Tensor

from rlcore.errors import ConfigError, DataError, NumericsError
from rlcore.functional.alignment import (
    LogPartition,
    best_of_n,
    best_of_n_bound,
    binary_target,
    calibration_error,
    chi_po_loss,
    f_dpg_loss,
    f_dpo_logits,
    f_dpo_loss,
    f_sft_loss,
    moment_weights,
    preference_loss,
    pseudo_reward,
    regularised_optimum,
    root_chi_squared,
    saturated_share,
    sequence_chi_squared,
    sequence_kl,
    tilt,
    tilt_at_divergence,
)
from rlcore.functional.divergence import ALL, INTERIOR, PearsonChiSquared, ReverseKl, TotalVariation, kl

DOUBLE = torch.float64
SMOOTH = {name: d for name, d in ALL.items() if name != "total variation"}


def problem(seed: int = 0, n: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mu = torch.log_softmax(torch.randn(n, dtype=DOUBLE, generator=generator), -1)
    return mu, torch.randn(n, dtype=DOUBLE, generator=generator)


def close(a: Tensor, b: Tensor | float, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype).expand_as(a), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", INTERIOR)
@pytest.mark.parametrize("beta", [0.05, 1.0])
def test_optimum_is_stationary_and_best(name: str, beta: float) -> None:
    """r = beta f'(u) + nu for one nu, and no neighbour is better."""
    mu, reward = problem()
    found = regularised_optimum(INTERIOR[name], mu, reward, beta)
    close(found.logsumexp(-1), 0.0)
    rest = reward - beta * INTERIOR[name].slope_at_log(found - mu)
    close(rest, rest.mean(), 1e-9)

    def objective(log_pi: Tensor) -> Tensor:
        return (log_pi.exp() * reward).sum(-1) - beta * INTERIOR[name].between(log_pi, mu)

    around = torch.log_softmax(found + 1e-3 * torch.randn(50, 6, dtype=DOUBLE), -1)
    assert bool((objective(around) <= objective(found)).all())


def test_optimum_of_reverse_kl_is_the_tilt_and_of_chi_squared_drops_outcomes() -> None:
    mu, reward = problem()
    close(regularised_optimum(ReverseKl(), mu, reward, 0.3), tilt(mu, reward, 1.0 / 0.3))
    held = regularised_optimum(PearsonChiSquared(), mu, reward, 0.1).exp()
    assert bool((held == 0.0).any())
    assert float(held.sum()) == pytest.approx(1.0, abs=1e-12)
    batch = torch.stack([reward, -reward])
    close(regularised_optimum(ReverseKl(), mu, batch, 0.3)[1], tilt(mu, -reward, 1.0 / 0.3))


def test_tilt_identities() -> None:
    mu, reward = problem()
    s = torch.tensor(1.7, dtype=DOUBLE, requires_grad=True)
    cumulant = torch.logsumexp(mu + s * reward, -1)
    (slope,) = torch.autograd.grad(cumulant, s)
    tilted = tilt(mu, reward, 1.7)
    close((tilted.exp() * reward).sum(), float(slope))
    close(kl(tilted, mu), float((1.7 * slope - cumulant).detach()))
    other = torch.log_softmax(torch.randn(6, dtype=DOUBLE, generator=torch.Generator().manual_seed(3)), -1)
    matched = other + 0.0
    for _ in range(80):  # another policy with the same mean reward, by a tilt of `other`
        mean = (matched.exp() * reward).sum()
        variance = (matched.exp() * reward.square()).sum() - mean.square()
        matched = tilt(matched, reward, float((slope - mean) / variance))
    close(kl(matched, mu), kl(matched, tilted) + kl(tilted, mu), 1e-11)
    close(kl(tilt_at_divergence(mu, reward, 0.4), mu), 0.4)


def test_best_of_n_against_enumeration() -> None:
    mu, _ = problem(n=4)
    reward = torch.tensor([0.3, 0.3, 1.0, -2.0], dtype=DOUBLE)  # two are equal
    p, expected = mu.exp(), torch.zeros(4, dtype=DOUBLE)
    for draws in torch.cartesian_prod(*[torch.arange(4)] * 3):
        best = reward[draws] == reward[draws].max()
        for action in draws[best]:
            expected[action] += p[draws].prod() / best.sum()
    close(best_of_n(mu, reward, math.log(3.0)).exp(), expected)
    close(best_of_n(mu, reward, 0.0), mu)


@pytest.mark.parametrize(
    ("n", "outcomes", "expected"),
    [(4, 4, 0.590310), (4, 16, 0.633370), (4, 256, 0.636283), (4, 4096, 0.636294), (64, 4, 1.386294)],
)
def test_divergence_of_best_of_n(n: int, outcomes: int, expected: float) -> None:
    mu = torch.full((outcomes,), -math.log(outcomes), dtype=DOUBLE)
    found = float(kl(best_of_n(mu, torch.arange(outcomes).double(), math.log(n)), mu))
    assert found == pytest.approx(expected, abs=6e-7)
    assert found <= best_of_n_bound(math.log(n))


def test_divergence_of_best_of_n_is_bounded() -> None:
    for seed in range(200):
        mu, reward = problem(seed, 5)
        log_n = 0.1 + 5.0 * (seed % 20) / 20.0
        found = best_of_n(mu, reward.round(decimals=0), log_n)
        assert float(kl(found, mu)) <= best_of_n_bound(log_n) + 1e-12
        wins = (found.exp().unsqueeze(1) * mu.exp() * ((reward.round().unsqueeze(1) > reward.round()).double()
                + 0.5 * (reward.round().unsqueeze(1) == reward.round()))).sum()  # fmt: skip
        assert float(wins) <= 1.0 - 1.0 / (1.0 + math.exp(log_n)) + 1e-12


TOKENS = {10: (0.4126, 0.0350, 0.02743), 200: (0.5020, 0.0947, 0.00613), 5000: (0.5138, 0.0998, 0.00056)}


@pytest.mark.parametrize("length", TOKENS)
def test_best_of_exponentially_many_becomes_the_tilt(length: int) -> None:
    """Bernoulli(0.3) tokens, N = e^(0.1 m): mean reward, KL to the reference and KL to the tilt, per token."""
    k = torch.arange(length + 1, dtype=DOUBLE)
    ways = math.lgamma(length + 1) - torch.lgamma(k + 1) - torch.lgamma(length - k + 1)
    mu = ways + k * math.log(0.3) + (length - k) * math.log(0.7)
    best = best_of_n(mu, k, 0.1 * length)
    target = tilt_at_divergence(mu, k, 0.1 * length)
    if length == 5000:
        assert float((target.exp() * k).sum()) / length == pytest.approx(0.5146, abs=6e-5)
    found = (float((best.exp() * k).sum()), float(kl(best, mu)), float(kl(best, target)))
    assert [value / length for value in found] == pytest.approx(TOKENS[length], abs=6e-5)


@pytest.mark.parametrize("name", INTERIOR)
def test_f_dpo_recovers_the_optimum(name: str) -> None:
    """The slopes of the optimum imply the true rewards, so that its loss has no gradient under Bradley-Terry labels."""
    mu, reward = problem()
    beta = 0.7
    log_pi = regularised_optimum(INTERIOR[name], mu, reward, beta)
    i, j = torch.triu_indices(6, 6, 1)
    logits = f_dpo_logits(INTERIOR[name], (log_pi - mu)[i], (log_pi - mu)[j], beta)
    close(logits, reward[i] - reward[j], 1e-9)
    free = log_pi.clone().requires_grad_()
    d = torch.log_softmax(free, -1) - mu
    truth = torch.sigmoid(reward[i] - reward[j])
    preference_loss(f_dpo_logits(INTERIOR[name], d[i], d[j], beta), truth).sum().backward()
    assert free.grad is not None
    assert float(free.grad.abs().max()) < 1e-8


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_are_finite_for_any_log_ratio(name: str, dtype: torch.dtype) -> None:
    values = torch.tensor([-1e4, -100.0, -1.0, 0.0, 1.0, 100.0, 1e4], dtype=dtype)
    chosen = values.repeat_interleave(7).requires_grad_()
    loss = f_dpo_loss(SMOOTH[name], chosen, values.repeat(7), beta=0.1)
    loss.sum().backward()
    assert chosen.grad is not None
    assert bool(torch.isfinite(loss).all() & torch.isfinite(chosen.grad).all())
    assert bool((chosen.grad <= 0.0).all()), "a better chosen one never costs more"
    for other in (chi_po_loss(chosen, values.repeat(7), 0.1, 2.0), f_sft_loss(SMOOTH[name], chosen, 0.1)):
        assert bool(torch.isfinite(other).all())


def test_f_dpo_of_reverse_kl_is_dpo() -> None:
    chosen, rejected = torch.randn(2, 9, dtype=DOUBLE)
    close(f_dpo_loss(ReverseKl(), chosen, rejected, 0.1), -torch.nn.functional.logsigmoid(0.1 * (chosen - rejected)))
    assert float(saturated_share(torch.tensor([0.0, 30.0, -40.0, 1.0]))) == 0.5


@pytest.mark.parametrize("name", ALL)
def test_pseudo_rewards_give_the_gradient_of_the_divergence(name: str) -> None:
    """grad D_f(pi | p) = E_pi[f'(pi / p) grad log pi], exactly, for a target that is not normalised."""
    log_p, _ = problem(1)
    logits = problem(2)[0].requires_grad_()
    log_pi = torch.log_softmax(logits, -1)
    (expected,) = torch.autograd.grad(ALL[name].between(log_pi, log_p), logits)
    log_pi = torch.log_softmax(logits, -1)
    reward = pseudo_reward(ALL[name], log_pi, log_p + 1.3, log_partition=1.3)
    weight = log_pi.detach().exp()
    for baseline in (0.0, 2.5):
        (found,) = torch.autograd.grad(-(weight * (reward - baseline) * log_pi).sum(), logits, retain_graph=True)
        close(found, expected, 1e-10)
    uniform = torch.full((6,), -math.log(6.0), dtype=DOUBLE)  # each outcome once: exact expectation under q
    (found,) = torch.autograd.grad(f_dpg_loss(log_pi, reward, 0.4, uniform), logits)
    close(found, expected, 1e-10)


PSEUDO = {  # s = log pi - log p: the closed forms
    "reverse KL": lambda s: -s - 1.0,
    "forward KL": lambda s: (-s).exp(),
    "Jensen-Shannon": lambda s: torch.nn.functional.softplus(-s) - math.log(2.0),
    "total variation": lambda s: -0.5 * s.sign(),
    "Neyman chi^2": lambda s: (-2.0 * s).exp() - 1.0,
    "Pearson chi^2": lambda s: 2.0 * (1.0 - s.exp()),
}


@pytest.mark.parametrize("name", PSEUDO)
def test_pseudo_rewards_are_the_published_ones(name: str) -> None:
    s = torch.linspace(-3.0, 3.0, 13, dtype=DOUBLE)
    close(pseudo_reward(ALL[name], s, torch.zeros_like(s), 0.0), PSEUDO[name](s), 1e-13)


def test_partition_estimate() -> None:
    mu, reward = problem(n=20)
    target, generator = mu + reward / 0.5, torch.Generator().manual_seed(0)
    estimate = LogPartition.empty()
    for _ in range(10):
        y = torch.multinomial(mu.exp(), 10_000, replacement=True, generator=generator)
        estimate = estimate.update(target[y], mu[y])
    assert float(estimate.value.exp()) == pytest.approx(float(target.logsumexp(-1).exp()), rel=0.02)
    perfect = LogPartition.empty().update(target, torch.log_softmax(target, -1))
    close(perfect.value, target.logsumexp(-1))  # of the target itself every sample says Z
    with pytest.raises(DataError, match="no samples yet"):
        _ = LogPartition.empty().value


def test_distributional_targets() -> None:
    mu, _ = problem(n=8)
    holds = torch.arange(8) % 2 == 0
    close(torch.log_softmax(binary_target(mu, holds), -1).exp()[holds].sum(), 1.0)
    features = torch.stack([holds.double(), (torch.arange(8) < 3).double()], -1)
    wanted = torch.tensor([0.5, 0.25], dtype=DOUBLE)
    weights = moment_weights(features, wanted, mu)
    close(torch.log_softmax(mu + features @ weights, -1).exp() @ features, wanted, 1e-10)
    with pytest.raises(NumericsError, match="samples can have"):
        moment_weights(features, torch.tensor([1.5, 0.2], dtype=DOUBLE), mu)


SFT = {
    "reverse KL": lambda x: -(-(x + 1.0)).exp(),
    "Jensen-Shannon": lambda x: (2.0 - (-x).exp()).log(),
    "squared Hellinger": lambda x: x / (1.0 + x),
    "Pearson chi^2": lambda x: x - x.square() / 4.0,
}


@pytest.mark.parametrize("name", SFT)
def test_supervised_objectives(name: str) -> None:
    d = torch.linspace(-0.4, 1.5, 20, dtype=DOUBLE).requires_grad_()
    loss = f_sft_loss(ALL[name], d, beta=1.0, value=0.1)
    close(loss, 0.1 - SFT[name](d + 0.1), 1e-12)
    (gradient,) = torch.autograd.grad(loss.sum(), d)
    weight = -gradient
    assert bool((weight > 0.0).all())
    assert bool((weight.diff() < 0.0).all()), "a sample counts less, the further the policy has passed the reference"


def test_plain_supervised_fine_tuning_has_lost_its_pull() -> None:
    d = torch.randn(7, dtype=DOUBLE)
    close(f_sft_loss(None, d, 0.3, value=5.0), -0.3 * d)


def test_sequence_penalties_estimate_their_divergences() -> None:
    mu, _ = problem()
    log_pi = torch.log_softmax(mu + 0.4 * problem(1)[1], -1)
    y = torch.multinomial(log_pi.exp(), 400_000, replacement=True, generator=torch.Generator().manual_seed(0))
    d = (log_pi - mu)[y]
    assert float(sequence_chi_squared(d)) == pytest.approx(float(PearsonChiSquared().between(log_pi, mu)), rel=0.02)
    assert float(sequence_kl(d)) == pytest.approx(float(kl(log_pi, mu)), rel=0.02)
    assert float(root_chi_squared(torch.zeros(5))) == pytest.approx(0.01)
    assert bool(torch.isfinite(sequence_chi_squared(torch.tensor([1e3, -1e3]))))


def test_calibrated_confidences_have_no_error() -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(200_000, generator=generator)
    assert calibration_error(p, torch.rand(200_000, generator=generator) < p) < 0.005
    assert calibration_error(torch.full((10,), 0.9), torch.zeros(10)) == pytest.approx(0.9, abs=1e-6)


def test_bad_input_in_one_line() -> None:
    mu, reward = problem()
    with pytest.raises(ConfigError, match="use one of the other divergences"):
        regularised_optimum(TotalVariation(), mu, reward, 0.1)
    with pytest.raises(ConfigError, match="beta must be positive"):
        f_dpo_loss(ReverseKl(), mu, mu, 0.0)
    with pytest.raises(ConfigError, match="nats away, got 90; ask for less"):
        tilt_at_divergence(mu, reward, 90)
    with pytest.raises(ConfigError, match="log N >= 0"):
        best_of_n(mu, reward, -1.0)
