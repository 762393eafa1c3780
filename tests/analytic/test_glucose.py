"""Virtual patients: steady state, mass balance, the adaptive integrator, risks, meals, batches."""

from __future__ import annotations

import math

import pytest
import torch

from rlcore.envs import make
from rlcore.envs.hacking import glucose_meals as meals
from rlcore.envs.hacking.glucose import BG, CLOCK, HISTORY, MEAL, MEAL_AT, Glucose
from rlcore.envs.hacking.glucose_model import Inputs, Plate, RungeKutta, bite, blood_glucose, rates
from rlcore.envs.hacking.glucose_patients import Patient, columns, names
from rlcore.envs.hacking.glucose_policies import pid
from rlcore.envs.hacking.glucose_risk import kovatchev, magni, patient_cost, risk_indices
from rlcore.errors import ConfigError, UnknownNameError
from rlcore.experiments.glucose_exact import largest_gap
from rlcore.experiments.hacking_study import constant, glucose
from rlcore.simulation import begin, rollout

MEALS = meals.table(torch.float32, torch.device("cpu"))


@pytest.fixture(scope="module")
def patients() -> tuple[Patient, torch.Tensor]:
    table, steady, _ = columns(names())
    return Patient(*table.unbind()), steady


def test_every_patient_rests_at_the_basal_rate(patients: tuple[Patient, torch.Tensor]) -> None:
    p, steady = patients
    rule, table = RungeKutta(torch.float64, torch.device("cpu")), torch.stack(p)
    zero = torch.zeros(30, dtype=torch.float64)
    assert rates(p, steady, Inputs(zero, p.basal, zero)).abs().max() < 1e-4
    ahead = steady
    for _ in range(24 * 60):
        ahead = rule.advance(table, ahead, Inputs(zero, p.basal, zero))
    assert (blood_glucose(p, ahead) - blood_glucose(p, steady)).abs().max() < 0.2


def test_carbohydrates_are_conserved(patients: tuple[Patient, torch.Tensor]) -> None:
    """What is eaten is in the stomach, in the gut, or was absorbed: the rates of the three add up to -kabs gut."""
    p, steady = patients
    x = steady + 1000.0 * torch.rand(13, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    carbs, meal = torch.full((30,), 3.0, dtype=torch.float64), torch.full((30,), 4e4, dtype=torch.float64)
    slope = rates(p, x, Inputs(carbs, p.basal, meal))
    torch.testing.assert_close(slope[:3].sum(0), 1000.0 * carbs - p.kabs * x[2])


def test_insulin_leaves_by_its_two_ways_only(patients: tuple[Patient, torch.Tensor]) -> None:
    """Depots, liver and plasma together: infusion in; m4 Ip in the periphery and m30 Il in the liver out."""
    p, steady = patients
    zero = torch.zeros(30, dtype=torch.float64)
    slope = rates(p, 1.3 * steady, Inputs(zero, 2.0 * p.basal, zero))
    total = slope[[5, 9, 10, 11]].sum(0)
    ip, il = 1.3 * steady[5], 1.3 * steady[9]
    torch.testing.assert_close(total, p.unit * 2.0 * p.basal - p.m4 * ip - p.m30 * il, rtol=1e-9, atol=1e-9)


def test_one_minute_is_close_to_an_adaptive_integrator() -> None:
    assert largest_gap("adult#001", minutes=520, basal=1.5, rtol=1e-8) < 0.1


def test_risks_at_known_readings() -> None:
    bg = torch.tensor([40.0, 70.0, 180.0, 250.0], dtype=torch.float64)
    torch.testing.assert_close(magni(bg), torch.tensor([84.3, 25.0, 3.5, 17.6]).double(), atol=0.06, rtol=0)
    torch.testing.assert_close(kovatchev(bg), torch.tensor([36.4, 7.8, 7.7, 22.4]).double(), atol=0.06, rtol=0)
    low, high = risk_indices(bg)
    assert float(low + high) == pytest.approx(float(kovatchev(bg).mean()))
    assert float(low) == pytest.approx(float(kovatchev(bg[:2]).sum()) / 4)
    assert magni(torch.tensor(138.9)) < 1e-3
    assert kovatchev(torch.tensor(112.5)) < 1e-3
    assert patient_cost(torch.tensor(60.0), torch.tensor(0.1)) == pytest.approx(0.032 + 13500 / 105120)


def test_a_meal_is_eaten_at_five_grams_a_minute_and_remembered() -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    plate, food = Plate(zero, zero, zero, zero), torch.full((13, 1), 100.0, dtype=torch.float64)
    eaten = []
    for k in range(6):
        mouthful, plate, size = bite(food, plate, torch.tensor([12.0 * (k == 1)]).double(), 1000.0)
        eaten.append(float(mouthful))
    assert eaten == [0.0, 5.0, 5.0, 2.0, 0.0, 0.0]
    assert float(size) == 200.0 + 12_000.0, "what was in the stomach when it began, and all of the meal"


def test_meals_have_the_published_law() -> None:
    count = 20_000
    clock, none = torch.full((count,), 300.0), torch.full((count,), -1.0)
    noise = torch.randn(count, 3, generator=torch.Generator().manual_seed(1))
    at, grams = meals.plan(MEALS, clock, none, 0.0 * none, torch.tensor(280.0), noise)
    eaten = at > 0
    assert float(eaten.float().mean()) == pytest.approx(0.95, abs=0.006)
    assert float(at[eaten].mean()) == pytest.approx(420.0, abs=1.5)
    assert at[eaten].min() >= 300.0
    assert at[eaten].max() <= 540.0
    assert float(grams[eaten].mean()) == pytest.approx(70.0, abs=0.4)
    assert float(grams[eaten].std()) == pytest.approx(10.5, rel=0.03)
    kept = meals.plan(MEALS, clock + 5.0, at, grams, torch.tensor(280.0), -noise)
    assert torch.equal(kept[0], at)
    assert torch.equal(kept[1], grams)


def test_portions_of_adult_001() -> None:
    env = make("rlcore/Glucose-v0")
    shares = MEALS[[0, 2, 4, 1], 6]
    torch.testing.assert_close(shares * env.carbohydrates[0], torch.tensor([69.4, 82.0, 97.7, 9.5]), atol=0.06, rtol=0)


def test_a_row_does_not_depend_on_the_batch_nor_on_the_other_patients() -> None:
    env = make("rlcore/Glucose-v0", patient="all", any_hour=True)
    many, _ = rollout(env, constant(0.03), begin(env, 9, seed=3), 30)
    few, _ = rollout(env, constant(0.03), begin(env, 2, seed=3, first_row=5), 30)
    torch.testing.assert_close(many.obs[:, 5:7], few.obs, rtol=1e-5, atol=1e-6)
    whole = begin(env, 300, seed=0).env.x
    assert whole[:, CLOCK].unique().numel() > 100
    alone = make("rlcore/Glucose-v0", patient=env.patients[int(many.obs.new_tensor(0))], any_hour=True)
    assert isinstance(alone, Glucose)


def test_one_patient_of_a_group_moves_as_alone() -> None:
    group, alone = (make("rlcore/Glucose-v0", patient=name, dtype=torch.float64) for name in ("all", "child#007"))
    start = begin(group, 200, seed=0)
    row = int((start.env.x[:, CLOCK + 3] == names().index("child#007")).nonzero()[0])
    x = start.env.x[row : row + 1]
    state = start.env._replace(t=start.env.t[:1], x=x)
    mine = state._replace(x=torch.cat([x[:, : CLOCK + 3], 0.0 * x[:, :1], x[:, CLOCK + 4 :]], 1))
    noise, action = torch.zeros(1, 3, dtype=torch.float64), torch.full((1, 1), 0.05, dtype=torch.float64)
    a, b = group.transition(state, action, noise), alone.transition(mine, action, noise)
    torch.testing.assert_close(a[0].x[:, :13], b[0].x[:, :13], rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(a[1], b[1], rtol=1e-12, atol=1e-12)


def test_rewards_are_those_of_the_state_reached() -> None:
    env = make("rlcore/Glucose-v0", dtype=torch.float64)
    start = begin(env, 4, seed=0).env
    action = torch.tensor([[0.0], [0.05], [0.1], [7.0]], dtype=torch.float64)
    after, proxy = env.transition(start, action, torch.zeros(4, 3, dtype=torch.float64))
    units = 43.2 * float(env.basal(start.x)) * torch.tensor([0.0, 0.05, 0.1, 0.1], dtype=torch.float64)
    torch.testing.assert_close(proxy, -0.32 * units - 0.0)
    torch.testing.assert_close(env.true_reward(start, action, after), -magni(after.x[:, BG]))
    torch.testing.assert_close(after.x[:, -2], 10.0 * units)


def test_no_insulin_is_free_and_harmful_and_meals_come() -> None:
    found = glucose(constant(0.0), days=1, paths=8)
    proxy, true = found.totals()
    assert proxy == 0.0
    assert true < -15_000.0
    env = make("rlcore/Glucose-v0")
    path = begin(env, 16, seed=0).env
    for k in range(288):
        path, _ = env.transition(
            path, torch.zeros(16, 1), torch.randn(16, 3, generator=torch.Generator().manual_seed(k))
        )
    assert torch.equal(path.x[:, CLOCK], torch.zeros(16))
    assert (path.x[:, MEAL_AT] <= 23 * 60).all()
    assert (path.x[:, MEAL] >= 0).all()


def test_pid_acts_on_the_error_its_sum_and_its_change() -> None:
    env = make("rlcore/Glucose-v0", dtype=torch.float64)
    policy = pid(env)
    obs = torch.zeros(1, 97, dtype=torch.float64)
    obs[0, HISTORY - 1], obs[0, HISTORY - 2], obs[0, -1] = 0.5, 0.48, 0.4  # 150 and 148 mg/dL, a sum of 4e4
    wanted = 1e-4 * 30.0 + 5e-7 * 4e4 + 1e-2 * 2.0
    assert float(policy.act(obs)) == pytest.approx(wanted / (43.2 * policy.basal))
    assert float(policy.act(obs, noise=torch.full((1, 1), -1e3).double())) == 0.0
    assert policy.basal == pytest.approx(0.0211227, abs=1e-7)


def test_sensor_noise_is_seen_and_not_felt() -> None:
    quiet, loud = (make("rlcore/Glucose-v0", sensor_noise=s, dtype=torch.float64) for s in (0.0, 1.0))
    a, b = begin(quiet, 64, seed=0).env, begin(loud, 64, seed=0).env
    spread = []
    for k in range(60):
        noise = torch.randn(64, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
        action = torch.full((64, 1), 0.03, dtype=torch.float64)
        a, b = quiet.transition(a, action, noise[:, :3])[0], loud.transition(b, action, noise)[0]
        spread.append(100.0 * (b.x[:, -1 - HISTORY - 1] - a.x[:, -1 - HISTORY - 1]))
    torch.testing.assert_close(a.x[:, :13], b.x[:, :13])
    assert 3.0 < float(torch.stack(spread)[20:].std()) < 30.0


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="dt must be 1, 3, 5 or 15 min, got 7"):
        make("rlcore/Glucose-v0", dt=7.0)
    with pytest.raises(UnknownNameError, match="no patient is called"):
        make("rlcore/Glucose-v0", patient="adult#011")
    with pytest.raises(ConfigError, match="one patient"):
        pid(make("rlcore/Glucose-v0", patient="child"))
    assert math.isclose(make("rlcore/Glucose-v0").spec.discount_rate * 5.0, -math.log(0.99))
