"""Ratios of occupancies against closed forms, the regulariser's weights and monitors, ORPO's contract, bad input."""

import math
import re
from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from rlcore.agents.orpo import (
    Certified,
    Constant,
    DualAscent,
    OccupancyRegularizer,
    OccupancySpace,
    PpoConfig,
    RatioConfig,
    RatioNetworks,
    RegularizerConfig,
    gather_base,
    orpo,
)
from rlcore.agents.orpo.alarm import HackingAlarm
from rlcore.agents.orpo.base_data import occupied
from rlcore.agents.orpo.held_out import Flatness, Rows, systematic
from rlcore.agents.orpo.monitors import chi_squared_of_laws, error_of_mean, histogram, pearson
from rlcore.agents.orpo.ratio import Ratio, divergences
from rlcore.agents.orpo.regularizer import back
from rlcore.data import Transitions
from rlcore.envs import make
from rlcore.envs.hacking.tomato_model import TabularPolicy
from rlcore.errors import ConfigError, DataError, RlcoreError
from rlcore.functional.occupancy import fisher_limit
from rlcore.nn.ensemble import Layers
from rlcore.training import Phase, RolloutSource, run

SMALL = RatioConfig(layers=Layers((32,), activation="leaky_relu"), steps=4, rounds=1, rows=32)
HORIZON = 4.0


def rows(batch: int = 6, *, seed: int = 0, terminate: bool = False, true: bool = True) -> Transitions:
    """Episodes of four steps in one dimension with two choices, in the layout of a `RolloutSource`."""
    generator = torch.Generator().manual_seed(seed)
    obs = torch.randn(4, batch, 1, generator=generator)
    choice = torch.nn.functional.one_hot(torch.randint(2, (4, batch), generator=generator), 2).float()
    discount = torch.full((4, batch), 0.9)
    last = torch.zeros(4, batch, dtype=torch.bool)
    last[-1] = True
    if terminate:
        discount[1, 0], last[1, 0] = 0.0, True
    reward = obs[..., 0] + 0.1 * choice[..., 0]
    extras = {"last": last, "t": torch.arange(4.0).unsqueeze(1).expand(4, batch).clone()}
    if true:
        extras["true_reward"] = obs[..., 0].clone()
    return Transitions(obs, choice, reward, discount, obs.roll(-1, 0), torch.ones(4, batch), extras)


def regularizer(batch: Transitions, **changes: object) -> OccupancyRegularizer:
    return OccupancyRegularizer(batch, (1, 2), HORIZON, RegularizerConfig(ratio=SMALL, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", ["classifier", "nwj", "kliep"])
def test_the_ratio_of_shifted_gaussians(loss: str) -> None:
    shift, count = 0.5, 4000
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, count, 1, generator=generator) + shift
    base = torch.randn(count, 1, generator=generator)
    fold = torch.arange(count) % 2
    ones = torch.ones(count)
    config = RatioConfig(loss, layers=Layers((32,), activation="leaky_relu"), rate=3e-3)
    networks = RatioNetworks(1, config)
    found = networks.fit(x, ones.unsqueeze(0), fold, base, ones, fold)
    assert float(found.flat) == 1.0
    assert float(found.rounds) < config.rounds
    expected = shift * x[..., 0] - 0.5 * shift**2
    assert float((found.log_ratio - expected).abs().mean()) < 0.12
    assert abs(float(found.calibration)) < 0.15
    chi2 = float((found.log_ratio.exp() + (-found.log_ratio).exp() - 2.0).mean())
    assert chi2 == pytest.approx(math.expm1(shift**2), abs=0.12)


def test_what_is_rare_under_the_reference_is_found_in_one_fit() -> None:
    """A flag on 5 % of mu and 1 in 1000 of mu0: L = 50 there, and chi^2 = 0.05 * 49 - 0.95 * 0.049 = 2.40."""
    count = 4000
    x = (torch.arange(count) % 40 < 2).float().view(1, count, 1)
    base = (torch.arange(40_000) % 2000 < 2).float().unsqueeze(1)
    fold, base_fold = torch.arange(count) % 2, torch.arange(40_000) % 2
    config = RatioConfig(layers=Layers((64, 64), activation="tanh", output_gain=0.1), rate=3e-3)
    found = RatioNetworks(1, config).fit(x, torch.ones(1, count), fold, base, torch.ones(40_000), base_fold)
    assert float(found.log_ratio[x[..., 0] > 0.0].exp().mean()) == pytest.approx(50.0, rel=0.2)
    assert float(divergences(found.log_ratio, torch.full((1, count), 1.0 / count))[0]) == pytest.approx(2.4, rel=0.2)
    assert float(found.flat) == 1.0


def test_a_run_that_is_flat_rests_and_one_that_is_not_goes_on() -> None:
    """Of two runs one has nothing to learn: its networks are left as they are while those of the other take steps."""
    count = 2000
    base = torch.randn(count, 1, generator=torch.Generator().manual_seed(5))
    x = torch.stack([base, base + 2.0])
    fold, ones = torch.arange(count) % 2, torch.ones(count)
    layers = Layers((16,), activation="leaky_relu", output_gain=0.0)  # d = 0, as it should be for the first run
    config = RatioConfig(layers=layers, steps=8, rounds=6, patience=1)
    networks = RatioNetworks(1, config, seeds=2)
    found = networks.fit(x, torch.ones(2, count), fold, base, ones, fold)
    assert found.rounds.tolist()[0] < found.rounds.tolist()[1] == 6.0
    assert found.flat.tolist() == [1.0, 0.0]
    taken = networks.adam.steps.tolist()  # folds of the first run, then of the second
    assert max(taken[:2]) == 8.0 * float(found.rounds[0])
    assert max(taken[2:]) == 48.0


def test_a_loss_that_falls_by_less_than_its_error_is_flat() -> None:
    level = torch.zeros(3, 100)
    noise = torch.randn(3, 100, generator=torch.Generator().manual_seed(6))
    noise -= noise.mean(1, keepdim=True)
    flatness = Flatness(torch.zeros(3, 1), Rows(level, level), patience=1)
    falls = torch.tensor([[0.3], [0.05], [-0.3]])  # the error of all is sd / 10 = 0.1
    gain, error = flatness.rows.fall_to(Rows(level - falls + noise, level))
    torch.testing.assert_close(gain, falls[:, 0])
    torch.testing.assert_close(error, noise.std(1) / 10.0)
    flatness.look(torch.arange(3), torch.ones(3, 1), Rows(level - falls + noise, level), last=False)
    assert flatness.rests.tolist() == [False, True, True]
    assert flatness.flat[:, 0].tolist() == [1.0, 1.0, 0.0]  # a small fall is taken, but nobody waits for another one


def test_systematic_rows_are_as_many_as_their_weights_say() -> None:
    weight = torch.rand(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    weight[:, 10:20] = 0.0
    drawn = systematic(weight.cumsum(-1), 1000, torch.Generator().manual_seed(8))
    counts = torch.stack([torch.bincount(row, minlength=50) for row in drawn])
    expected = 1000.0 * weight / weight.sum(1, keepdim=True)
    assert float((counts - expected).abs().max()) < 1.0 + 1e-9
    assert int(counts[:, 10:20].sum()) == 0
    assert not torch.equal(drawn[0], drawn[0].sort().values)  # in a random order


def test_rows_count_in_proportion_to_their_weight() -> None:
    """Weights on one half of the rows make the occupancy that half's: the ratio is 2 there."""
    count = 2000
    x = (torch.arange(count) % 4 < 2).float().view(1, count, 1)
    base, fold = x[0].clone(), torch.arange(count) % 2
    config = RatioConfig(layers=Layers((16,), activation="tanh"), steps=200, rounds=1, rate=1e-2, largest=5.0)
    found = RatioNetworks(1, config).fit(x, x[..., 0], fold, base, torch.ones(count), fold)
    inside = x[..., 0] > 0.0
    assert float(found.log_ratio[inside].exp().mean()) == pytest.approx(2.0, rel=0.1)


def test_fold_j_is_judged_by_the_network_that_has_not_seen_it() -> None:
    config = RatioConfig(layers=Layers((8,)), steps=1, rounds=1)
    networks = RatioNetworks(1, config, seeds=2)
    x, fold = torch.randn(2, 40, 1), torch.arange(40) % 2
    base = torch.randn(60, 1)
    found = networks.fit(x, torch.ones(2, 40), fold, base, torch.ones(60), torch.arange(60) % 2)
    d = networks.log_ratio(x.repeat_interleave(2, 0)).view(2, 2, 40)
    for judge, judged in ((0, 1), (1, 0)):
        off = (found.log_ratio - d[:, judge])[:, fold == judged]
        torch.testing.assert_close(off, off[:, :1].expand_as(off))  # the same but for the calibration


def test_weights_are_discounted_and_the_end_goes_on() -> None:
    batch = rows(terminate=True)
    found = occupied(batch, OccupancySpace(absorbing=True), (1, 2), HORIZON)
    torch.testing.assert_close(found.weight[:, 1], 0.9 ** torch.arange(4.0))
    assert found.features.shape == (4, 6, 4)
    torch.testing.assert_close(found.onward[1, 0], torch.tensor(0.9 + 0.9**2))  # steps 2 and 3 are missing
    torch.testing.assert_close(found.after_end[1, 0], torch.tensor(0.9**2 + 0.9**3))
    assert float(found.after_end.sum()) == float(found.after_end[1, 0])
    flat = occupied(batch, OccupancySpace(discount_weighting=False, absorbing=True), (1, 2), HORIZON)
    assert float(flat.weight.min()) == 1.0
    assert float(flat.after_end[1, 0]) == 2.0
    after = occupied(batch, OccupancySpace(columns=(0,), arrived=True), (1, 2), HORIZON)
    torch.testing.assert_close(after.features[..., 0], batch.next_obs[..., 0])
    torch.testing.assert_close(after.features[..., 1:], found.features[..., 1:])
    none = occupied(batch, OccupancySpace(columns=()), (1, 2), HORIZON)
    assert none.features.shape == (4, 6, 3)
    alone = occupied(batch, OccupancySpace(state_only=True), (1, 2), HORIZON)
    assert alone.features.shape == (4, 6, 2)
    assert float(alone.after_end.sum()) == 0.0


@pytest.mark.parametrize("kind", ["sqrt_chi2", "chi2", "kl", "forward_kl", "tv", "maxmin", "none"])
@pytest.mark.parametrize("absorbing", [False, True])
def test_every_kind_prices_every_step(kind: str, absorbing: bool) -> None:
    batch = rows(8, terminate=absorbing)
    part = regularizer(batch, kind=kind, strength=Constant(0.1), r=0.8, space=OccupancySpace(absorbing=absorbing))
    price, stats = part.fit(rows(8, seed=1, terminate=absorbing))
    assert price.shape == batch.reward.shape
    assert bool(price.isfinite().all())
    assert all(bool(value.isfinite().all()) for value in stats.values())
    assert (float(price.abs().max()) == 0.0) == (kind == "none")


def test_the_price_of_sqrt_chi2_is_that_of_the_ratio() -> None:
    batch = rows(8)
    part = regularizer(batch, strength=Constant(0.3), r=0.5)
    seen: list[Tensor] = []
    fit = part.networks.fit
    part.networks.fit = lambda *a: seen.append(fit(*a)) or seen[-1]  # type: ignore[func-returns-value, method-assign]
    price, stats = part.fit(rows(8, seed=3))
    wary = torch.maximum(seen[0].log_ratio, seen[0].own)  # what one fold alone has seen must not go unpaid
    expected = 0.3 * wary.exp() / stats["div/sqrt_chi2"]
    torch.testing.assert_close(price, back(expected, 4))
    assert float(stats["div/sqrt_chi2"]) >= abs(float(stats["hack/kappa"]) * float(stats["div/sqrt_chi2"])) - 1e-6


def test_centred_prices_differ_by_a_constant_and_a_small_c_is_not_divided_by() -> None:
    batch = rows(8)
    plain, centred = (regularizer(batch, strength=Constant(0.3), r=0.5, centred=centred) for centred in (False, True))
    (price, stats), (moved, _) = (part.fit(rows(8, seed=3)) for part in (plain, centred))
    torch.testing.assert_close(price - moved, (price - moved)[:1, :1].expand_as(price))
    weight = 0.9 ** torch.arange(4.0).unsqueeze(1)
    assert abs(float((weight * moved).sum())) < 1e-4
    wide = regularizer(batch, strength=Constant(0.3), r=0.5, least=2.0 * float(stats["div/sqrt_chi2"]))
    cheaper, held = wide.fit(rows(8, seed=3))
    torch.testing.assert_close(cheaper, 0.5 * price)
    assert float(held["div/sqrt_chi2"]) == pytest.approx(2.0 * float(stats["div/sqrt_chi2"]))


def test_divergences_of_known_ratios_and_a_row_that_is_rare_under_mu() -> None:
    for shift in (0.3, 1.0):
        x = shift + torch.randn(1, 200_000, generator=torch.Generator().manual_seed(2))
        log_ratio, share = shift * x - 0.5 * shift**2, torch.full_like(x, 1.0 / x.numel())
        chi2, kl = (float(value) for value in divergences(log_ratio, share))
        assert chi2 == pytest.approx(math.expm1(shift**2), rel=0.03)
        assert kl == pytest.approx(0.5 * shift**2, abs=0.02)
    log_ratio = torch.zeros(1, 1000)
    log_ratio[0, 0] = -9.0  # a network that is sure of what it has not seen: 1/L is 8000, E_mu[1/L] - 1 is 8
    chi2, kl = divergences(log_ratio, torch.full_like(log_ratio, 1e-3))
    assert float(chi2) == pytest.approx(0.01, abs=0.002)
    assert float(kl) == pytest.approx(0.0, abs=0.002)


def test_a_bad_estimate_certifies_nothing() -> None:
    """A proxy far above the reference's beside ratios of 1: p is large and chi^2 is not, which cannot be."""
    batch = rows(8)
    part = regularizer(batch, strength=Constant(0.3), r=0.99)
    better = rows(8, seed=3)
    better = better.replace(reward=better.reward + 5.0)
    flat = torch.zeros(1, 32)

    def estimate(log_ratio: Tensor, own: Tensor, off: float, rests: float = 1.0) -> dict[str, Tensor]:
        none = torch.zeros(1)
        part.networks.fit = lambda *a: Ratio(log_ratio, none + off, none, none, none, none + rests, own)  # type: ignore[method-assign]
        return part.fit(better)[1]

    gain = float(estimate(flat, flat, 0.0)["div/sqrt_chi2"])  # C is raised to |p|
    wide = torch.full((1, 32), math.log(1.0 + gain**2 * 1.01))  # chi^2 just above p^2
    bad = (flat, flat, 0.0, 1.0), (wide, wide, 0.3, 1.0), (wide, wide + 0.5, 0.0, 1.0), (wide, wide, 0.0, 0.0)
    for log_ratio, own, off, rests in bad:
        stats = estimate(log_ratio, own, off, rests)
        assert float(stats["hack/kappa"]) == float(stats["hack/bound_A"]) == float(stats["hack/bound_T"]) == 0.0
        assert float(stats["hack/certificate"]) < 0.0
        assert float(stats["hack/alarm_certificate"]) == 1.0
    sound = estimate(wide, wide, 0.1)
    assert float(sound["hack/certificate"]) > 0.0
    assert float(sound["hack/bound_A"]) > 0.0
    assert float(sound["hack/alarm_certificate"]) == 0.0


def test_the_law_of_the_proxy_needs_no_network() -> None:
    """A reward of 8 deviations, in 4 % of mu and 0.1 % of mu0: chi^2 is sum mu^2 / mu0 - 1, and above p^2."""
    x = torch.tensor([[-0.1, 0.1, 8.0]])
    mu, base = torch.tensor([[0.5, 0.46, 0.04]]), torch.tensor([0.499, 0.5, 0.001])
    law, of_base = histogram(x, mu), histogram(x[0], base)
    torch.testing.assert_close((law.sum(), of_base.sum()), (torch.ones(()), torch.ones(())))
    expected = float((mu[0].square() / base).sum()) - 1.0
    found = float(chi_squared_of_laws(law, of_base, 10**9))
    assert found == pytest.approx(expected, rel=1e-4)
    mean, mean_square = (float((base * x[0] ** k).sum()) for k in (1, 2))
    p = (float((mu * x).sum()) - mean) / math.sqrt(mean_square - mean**2)
    assert found >= p**2 - 1e-6
    unseen = histogram(torch.tensor([-30.0, 30.0]), torch.tensor([0.5, 0.5]))  # the open ends
    assert float(chi_squared_of_laws(unseen, of_base, 1000)) > 100.0


def test_the_error_of_a_mean_is_that_of_independent_paths() -> None:
    paths, steps = 400, 5
    level = torch.randn(1, paths, generator=torch.Generator().manual_seed(4))
    x = level.repeat(1, steps)  # rows of a path are all alike: n of them are one observation
    share = torch.full_like(x, 1.0 / x.numel())
    expected = float(level.std()) / math.sqrt(paths)
    assert float(error_of_mean(x, share, paths)) == pytest.approx(expected, rel=1e-5)
    assert float(error_of_mean(x[:, :1], share[:, :1], 1)) == math.inf


def test_a_ratio_that_is_not_yet_fitted_certifies_nothing() -> None:
    """Ratios near 1 calibrate and lie above p^2, but the proxy's own law is far from the reference's."""
    batch = rows(400)
    part = regularizer(batch, strength=Constant(0.3), r=0.9)
    other = rows(400, seed=3)
    reward = other.reward.clone()
    reward[0, :20] = float(part.proxy_mean) + 8.0 * float(part.proxy_sd)  # where the reference never was
    found = other.replace(reward=reward)
    weight = 0.9 ** found.extras["t"]
    gain = float((weight * (reward - part.proxy_mean)).sum() / weight.sum() / part.proxy_sd)  # p
    log_ratio, none = torch.full((1, 1600), 1.3 * gain), torch.zeros(1)  # chi^2 is its square
    part.networks.fit = lambda *a: Ratio(log_ratio, none, none, none, none, none + 1.0, log_ratio)  # type: ignore[method-assign]
    stats = part.fit(found)[1]
    assert float(stats["div/sqrt_chi2"]) == pytest.approx(1.3 * gain, rel=0.01)  # kappa would be 0.77, enough for 0.44
    assert float(stats["hack/kappa_required"]) == pytest.approx(math.sqrt(1.0 - 0.9**2))
    assert float(stats["div/sqrt_chi2_proxy"]) > 0.3
    assert float(stats["hack/certificate"]) < 0.0


@pytest.mark.parametrize(("proxy", "true", "hacked"), [(1.0, -1.0, 1.0), (1.0, 1.0, 0.0), (-1.0, -1.0, 0.0)])
def test_hacking_is_a_proxy_above_and_a_true_reward_below_the_reference(
    proxy: float, true: float, hacked: float
) -> None:
    batch = rows(8)
    extras = batch.extras | {"true_reward": batch.extras["true_reward"] + true}
    stats = regularizer(batch, r=0.9).fit(batch.replace(reward=batch.reward + proxy, extras=extras))[1]
    assert float(stats["hack/hacked"]) == hacked


def test_runs_side_by_side_keep_their_rows() -> None:
    a = torch.arange(24.0).view(4, 6)
    from rlcore.agents.orpo.rows import apart, merged

    torch.testing.assert_close(back(merged(apart(a, 3)), 4), a)


def test_lambda_by_rule() -> None:
    batch = rows(200)
    measured = regularizer(batch)
    r = measured.correlation
    assert r is not None
    expected = float(measured.proxy_sd) * math.sqrt(1.0 - r * r)
    assert float(measured.strength) == pytest.approx(expected, rel=1e-5)
    careful = regularizer(batch, labelled=50)
    assert careful.r is not None
    assert careful.r < r
    assert float(careful.strength) > float(measured.strength)
    true = batch.extras["true_reward"].clone()
    true[:, 100:] = math.nan  # half of the paths carry no label
    half = regularizer(batch.replace(extras=batch.extras | {"true_reward": true}))
    labelled = regularizer(batch[:, :100])  # type: ignore[index]
    assert half.correlation == pytest.approx(labelled.correlation)
    assert half.r == pytest.approx(fisher_limit(half.correlation, 400))  # type: ignore[arg-type]
    assert float(half.proxy_sd) == float(measured.proxy_sd)
    dual = DualAscent(target=1.0, value=0.2, rate=0.1)
    assert float(dual.after(torch.tensor(0.2), torch.tensor(3.0))) == pytest.approx(0.2 * math.exp(0.2))
    assert float(dual.after(torch.tensor(0.2), torch.tensor(0.5))) < 0.2


def test_a_constant_reward_is_an_alarm_and_no_nan() -> None:
    share = torch.full((1, 4), 0.25)
    varied = torch.tensor([[1.0, 2.0, 3.0, 5.0]])
    correlation, constant = pearson(varied, torch.full((1, 4), 0.3), share)
    assert (float(correlation), float(constant)) == (0.0, 1.0)
    correlation, constant = pearson(varied, -2.0 * varied, share)
    assert float(correlation) == pytest.approx(-1.0)
    assert float(constant) == 0.0


def test_bad_input_is_one_line() -> None:
    good = rows()
    flat = good.replace(reward=torch.ones_like(good.reward))
    cases = {
        "zero variance": lambda: regularizer(flat),
        r"\(0, 1\]": lambda: regularizer(good, r=-0.2),
        "needs the correlation": lambda: regularizer(rows(true=False)),
        "at least 2 paths": lambda: regularizer(good[:, :1]),  # type: ignore[index]
        "kind must be": lambda: regularizer(good, kind="wasserstein"),
        "loss must be": lambda: RatioNetworks(1, RatioConfig("gan")),  # type: ignore[arg-type]
        r"extras\['t'\]": lambda: regularizer(good.replace(extras={"last": good.extras["last"]})),
        "base_law": lambda: orpo(
            make("rlcore/Tomato-v0").spec, tomato()[1], RegularizerConfig("ad_kl", Constant(0.1), ratio=SMALL)
        ),
        "target": lambda: DualAscent(target=0.0),
        "gather it in the same environment": lambda: orpo(make("rlcore/Tomato-v0").spec, good),
    }
    for message, call in cases.items():
        with pytest.raises(RlcoreError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="finite horizon"):
        gather_base(make("rlcore/ErgodicLqr-v0", horizon=math.inf), lambda obs: obs)  # type: ignore[arg-type]
    with pytest.raises(DataError):
        regularizer(rows(true=True).replace(reward=torch.zeros(4, 6)))


def tomato() -> tuple[TabularPolicy, Transitions]:
    env = make("rlcore/Tomato-v0", steps=20)
    model = env.model()
    base = TabularPolicy(model, model.softened(0.15))
    return base, gather_base(env, base, paths=16, seed=5)


@pytest.mark.parametrize("kind", ["sqrt_chi2", "ad_kl", "ad_chi2", "ad_sqrt_chi2"])
def test_orpo_learns_resumes_and_reports(kind: str, tmp_path: object) -> None:
    env = make("rlcore/Tomato-v0", steps=20)
    base, data = tomato()
    strength = Certified() if kind == "sqrt_chi2" else Constant(0.1)
    config = RegularizerConfig(kind, strength, ratio=SMALL)  # type: ignore[arg-type]
    learner = PpoConfig(minibatch=64, epochs=1)
    agents = [orpo(env.spec, data, config, learner, seeds=2, base_law=base.law) for _ in range(2)]
    source = RolloutSource(env, 8, 20, seed=0)
    metrics = agents[0].update(source.next(agents[0]))
    for tag in (
        "J_proxy",
        "J_true",
        "corr_on_policy",
        "corr_base",
        "corr_drop",
        "kappa",
        "kappa_required",
        "certificate",
    ):
        assert math.isfinite(float(metrics[f"hack/{tag}"]))
    for tag in ("hack/bound_A", "hack/bound_T", "div/sqrt_chi2", "div/kl", "div/ad_kl", "div/unsupported_frac",
                "disc/calibration", "disc/loss", "reg/lambda", "reg/penalty_share", "hack/alarm"):  # fmt: skip
        assert math.isfinite(float(metrics[tag]))
    agents[0].save(f"{tmp_path}/a.ckpt")
    agents[1].load(f"{tmp_path}/a.ckpt")
    batch = source.next(agents[0])
    for agent in agents:
        agent.update(batch)
    for p, q in zip(agents[0].parameters(), agents[1].parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize(
    ("tag", "value", "said"),
    [
        ("div/unsupported_frac", 0.25, "never visits 25% of what the policy visits"),
        ("disc/calibration", -0.4, "does not calibrate: E_mu0\\[L\\] is off by -0.40, so nothing is certified"),
        ("hack/hacked", 1.0, "reward hacking"),
        ("hack/alarm_zero_variance", 1.0, "zero variance"),
        ("hack/alarm_corr_drop", 1.0, "come apart: correlation 0.10 on the policy, 0.90"),
    ],
)
def test_every_alarm_names_its_figure_in_one_line(tag: str, value: float, said: str) -> None:
    alarm = HackingAlarm(file=StringIO())
    others = {"hack/corr_on_policy": 0.1, "hack/corr_base": 0.9, "div/unsupported_frac": 0.009}
    figures = {name: torch.tensor(number) for name, number in (others | {tag: value}).items()}
    alarm(SimpleNamespace(iteration=0, last=False, metrics=figures))  # type: ignore[arg-type]
    assert len(alarm.lines) == 1
    assert re.search(said, alarm.lines[0])
    assert "\n" not in alarm.lines[0]


def test_a_policy_beyond_the_reference_is_unsupported_and_certifies_nothing() -> None:
    """Rows where the reference never was: d runs to its bound there, and the monitors say so."""
    batch = rows(64)
    far = rows(64, seed=1)
    far = far.replace(obs=far.obs + 30.0)
    config = RatioConfig(layers=Layers((16,), activation="leaky_relu"), steps=300, rounds=1, rows=64, rate=1e-2)
    part = OccupancyRegularizer(batch, (1, 2), HORIZON, RegularizerConfig(r=0.9, ratio=config))
    stats = part.fit(far)[1]
    assert float(stats["div/unsupported_frac"]) > 0.9
    assert float(stats["hack/certificate"]) < 0.0


def test_the_alarm_speaks_once_and_says_when_all_is_quiet() -> None:
    said = StringIO()
    alarm = HackingAlarm(every=1, file=said)
    source = RolloutSource(make("rlcore/Tomato-v0", steps=5), 2, 5, seed=0)
    _base, data = tomato()
    agent = orpo(make("rlcore/Tomato-v0", steps=20).spec, data, replace(RegularizerConfig(), ratio=SMALL))
    found = iter([1.0, 1.0, 0.0])

    def update(batch: Transitions) -> dict[str, float]:
        lost = next(found)
        return {"hack/alarm_certificate": lost, "hack/kappa": 0.1, "hack/kappa_required": 0.3}

    run(agent, [Phase("learn", source, 3, update)], [alarm])
    assert len(alarm.lines) == 2
    assert "certificate is lost" in alarm.lines[0]
    assert "quiet" in alarm.lines[1]
    assert said.getvalue().count("\n") == 2
