"""An epidemic: people are conserved, binomial laws, habits, beds, rewards, strategies."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import one_hot

from rlcore.envs import make
from rlcore.envs.hacking import pandemic_model as town
from rlcore.envs.hacking.pandemic import DEAD, GROUPS, ILL, KNOWN, RECOVERED, SEEN, STAGE, WINDOW, Pandemic
from rlcore.envs.hacking.pandemic_policies import STRATEGIES, Follow, Pool, WaitForCases
from rlcore.errors import ConfigError
from rlcore.experiments.hacking_study import watch
from rlcore.experiments.orpo_pandemic import premature
from rlcore.simulation import begin, rollout

TOWN = town.founded(torch.float64, torch.device("cpu"))
RAISE, KEEP, LOWER = (one_hot(torch.tensor([k]), 3).float() for k in (2, 1, 0))


def test_habits_leave_what_they_should() -> None:
    two, m = torch.tensor([2.0]), torch.ones(1)
    assert float(town.habits(two, m, legacy=False)) == pytest.approx(0.485, abs=5e-4)
    left = []
    for _ in range(5):
        m = town.habits(two, m, legacy=True)
        left.append(float(m))
    assert left == pytest.approx([0.485, 0.2405, 0.1243, 0.0691, 0.0428], abs=5e-4)
    for _ in range(100):
        m = town.habits(two, m, legacy=True)
    assert float(m) == pytest.approx(0.01906, abs=1e-5)
    days = 0
    while float(m) < 0.5:
        m, days = town.habits(torch.zeros(1), m, legacy=True), days + 1
    assert days == 68


def test_binomial_numbers_have_their_mean_and_variance() -> None:
    noise = torch.randn(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for count, chance in ((5.0, 0.3), (200.0, 0.001), (140.0, 0.5), (0.0, 0.4), (30.0, 0.2)):
        n, p = torch.full_like(noise, count), torch.full_like(noise, chance)
        drawn = town.binomial(n, p, noise)
        assert torch.equal(drawn, drawn.round())
        assert (drawn >= 0).all()
        assert (drawn <= n).all()
        assert float(drawn.mean()) == pytest.approx(count * chance, abs=0.01 + 4e-3 * count * chance)
        assert float(drawn.var()) == pytest.approx(count * chance * (1 - chance), rel=0.02, abs=1e-9)


def test_people_are_conserved_and_whole() -> None:
    env = make("rlcore/Pandemic-v0")
    state = begin(env, 32, seed=0).env
    for k in range(130):
        action = one_hot(torch.randint(3, (32,), generator=torch.Generator().manual_seed(k)), 3).float()
        state, _ = env.transition(state, action, torch.randn(32, env.step_noise_dim))
        people = state.x[:, :STAGE]
        assert torch.equal(people.sum(1), torch.full((32,), 500.0))
        assert torch.equal(people, people.round())
        assert (people >= 0.0).all()
        ill = state.x[:, GROUPS:RECOVERED].unflatten(1, (7, 2, 8))
        assert (ill[:, town.BED - 1].sum((1, 2)) <= town.BEDS).all()
        known = state.x[:, KNOWN:WINDOW]
        assert ((known >= 0.0) & (known <= 1.0)).all()


def test_without_the_ill_nothing_happens_until_the_second_variant() -> None:
    env = make("rlcore/Pandemic-v0")
    x = begin(env, 4, seed=0).env.x.clone()
    x[:, GROUPS : GROUPS + ILL] = 0.0
    state = begin(env, 4, seed=0).env._replace(x=x)
    for day in range(110):
        state, reward = env.transition(state, KEEP.expand(4, 3), torch.randn(4, env.step_noise_dim))
        if day < 95:
            assert torch.equal(reward, torch.zeros(4))
    assert (state.x[:, GROUPS : DEAD + GROUPS].sum(1) >= 5.0).all(), "the second variant came"


def test_infections_follow_the_force() -> None:
    """Everybody alike and one stage: the hours of contact with the ill, times the chance per hour."""
    infected = torch.zeros(1, 7, 2, 8, dtype=torch.float64)
    people = TOWN.people
    infected[0, town.PRE_A - 1, 0] = 0.1 * people
    rate = town.force(TOWN, infected, torch.zeros(1).double(), torch.ones(1).double())
    every, home = TOWN.every, TOWN.home
    torch.testing.assert_close(rate[0, 0, ::2], 0.021 * 0.1 * every[0].sum(1))
    assert (every[1:].sum(2) <= every[:-1].sum(2) + 1e-12).all(), "a higher stage never has more contacts"
    sick = torch.zeros_like(infected)
    sick[0, town.Y - 1, 1] = 0.1 * people
    rate = town.force(TOWN, sick, torch.ones(1).double(), torch.ones(1).double())
    torch.testing.assert_close(rate[0, 1, ::2], 0.0315 * 0.1 * home.sum(1))


def test_the_oldest_get_the_beds() -> None:
    infected = torch.zeros(1, 7, 2, 8)
    infected[0, town.NEED - 1, 0, 1], infected[0, town.NEED - 1, 0, 7] = 4.0, 3.0
    infected[0, town.BED - 1, 0, 0] = 1.0
    after = town.admit(infected)
    assert after[0, town.BED - 1].sum() == 5.0
    assert after[0, town.BED - 1, 0, 7] == 3.0
    assert after[0, town.NEED - 1, 0, 1] == 3.0


def test_rewards_by_hand() -> None:
    for legacy in (False, True):
        env = make("rlcore/Pandemic-v0", legacy=legacy)
        state, noise = begin(env, 1, seed=0).env, torch.full((1, env.step_noise_dim), -3.0)
        after, proxy = env.transition(state, RAISE, noise)
        cost = 0.1 * (0.5**1.5 if legacy else 0.25**1.5) + 0.01
        assert float(proxy) == pytest.approx(-cost, abs=1e-6)
        assert float(env.true_reward(state, RAISE, after)) == pytest.approx(-cost - 10.0, abs=1e-5)
        x = state.x.clone()
        x[:, KNOWN] = 0.003  # 3 in 1000 are known to be infected
        calm = state._replace(x=x)
        after, proxy = env.transition(calm, RAISE, noise)
        assert float(env.true_reward(calm, RAISE, after) - proxy) == pytest.approx(-10.0 * 0.4**2, rel=1e-4)
        down, proxy = env.transition(calm, LOWER, noise)
        assert float(env.true_reward(calm, LOWER, down)) == float(proxy)
        assert float(proxy) == pytest.approx(0.0, abs=1e-6)


def test_strategies_reach_what_they_ask_for_and_backwards_never_raises() -> None:
    env = make("rlcore/Pandemic-v0")
    path, _ = rollout(env, Follow(STRATEGIES["Italian"]), begin(env, 2, seed=0), 100)
    stage = (4.0 * path.obs[:, 0, 1 - SEEN]).round().int().tolist()
    assert [stage[day] for day in (0, 3, 4, 9, 14, 26, 58, 60, 80)] == [0, 0, 1, 2, 3, 4, 4, 3, 2]
    back, _ = rollout(env, Follow(STRATEGIES["S4"], backwards=True), begin(env, 2, seed=0), 30)
    assert float(back.obs[..., 1 - SEEN].max()) == 0.0
    waiting = watch(env, WaitForCases(2), paths=16, steps=100)
    assert torch.allclose(waiting.true, waiting.proxy), "who waits for cases pays nothing for raising"


def test_a_row_does_not_depend_on_the_batch() -> None:
    env = make("rlcore/Pandemic-v0")
    policy = Follow(STRATEGIES["Swedish"])
    many, _ = rollout(env, policy, begin(env, 6, seed=1), 40)
    few, _ = rollout(env, policy, begin(env, 2, seed=1, first_row=3), 40)
    torch.testing.assert_close(many.obs[:, 3:5], few.obs)
    with pytest.raises(ConfigError, match="history"):
        Pandemic(type(env.config)(history=0))


def test_who_waits_never_raises_early_and_who_does_not_pays_for_it() -> None:
    env = make("rlcore/Pandemic-v0", legacy=True)

    def early(state: object) -> dict[str, torch.Tensor]:
        return {"premature": premature(env.observe(state))}  # type: ignore[arg-type]

    cautious = Pool(tuple(WaitForCases(stage, 0.5) for stage in (1, 2, 3, 4)))
    waiting, at_once = (watch(env, p, paths=16, steps=120, measure=early) for p in (cautious, Follow(STRATEGIES["S2"])))
    assert waiting.peaks["premature"] == 0.0
    assert waiting.correlation == pytest.approx(1.0)
    assert torch.equal(waiting.true, waiting.proxy)
    days = (at_once.true < at_once.proxy).double()
    assert at_once.figures["premature"] == pytest.approx(float(days.mean()))
    assert at_once.totals()[1] < waiting.totals()[1] - 5.0
    lowering = watch(env, WaitForCases(2, 1.0), paths=16, steps=120)
    assert lowering.totals()[0] > waiting.totals()[0], "in the legacy rewards it is free to ask for less than nothing"
