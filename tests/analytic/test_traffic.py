"""Merging cars: the equilibrium gap, who follows whom, no car lost, the hack."""

from __future__ import annotations

import math

import pytest
import torch

from rlcore.envs import make
from rlcore.envs.hacking import traffic_model as road
from rlcore.envs.hacking.traffic import SLOTS, Traffic, command, idm_policy
from rlcore.envs.hacking.traffic_model import Cars
from rlcore.errors import ConfigError
from rlcore.experiments.hacking_study import watch
from rlcore.experiments.orpo_traffic import Stops
from rlcore.simulation import Feedback, begin, rollout
from rlcore.simulation.environment import EnvState


def cars_at(*rows: tuple[float, float, float, float, float, float]) -> Cars:
    """Cars of one batch row: position, speed, kind, branch, order, command."""
    return Cars(*torch.tensor([rows], dtype=torch.float64).permute(2, 0, 1))


@pytest.mark.parametrize(("speed", "gap"), [(5.0, 7.003), (10.0, 12.075), (20.0, 24.559)])
def test_a_column_at_the_equilibrium_gap_keeps_its_speed(speed: float, gap: float) -> None:
    assert road.equilibrium_gap(speed) == pytest.approx(gap, abs=1e-3)
    v, h = (torch.tensor([x], dtype=torch.float64) for x in (speed, road.equilibrium_gap(speed)))
    assert float(road.idm(v, v, h)) == pytest.approx(0.0, abs=1e-12)
    apart = road.equilibrium_gap(speed) + road.LENGTH
    column = cars_at(*((60.0 - apart * k, speed, 1.0, 0.0, 0.0, math.inf) for k in range(4)))
    after = road.move(column)
    torch.testing.assert_close(after.speed[0, 1:], column.speed[0, 1:], rtol=0, atol=1e-9)
    torch.testing.assert_close(after.position[0, 1:], column.position[0, 1:] + 0.2 * speed, rtol=0, atol=1e-9)


def test_leaders_are_of_ones_own_branch_until_the_zone() -> None:
    cars = cars_at(
        (10.0, 8.0, 1.0, 0.0, 0.0, math.inf),  # past the merge: everybody's
        (-5.0, 7.0, 1.0, 1.0, 0.0, math.inf),  # ramp, in the zone
        (-15.0, 6.0, 1.0, 0.0, 0.0, math.inf),  # highway, in the zone: behind the ramp's
        (-40.0, 5.0, 1.0, 1.0, 0.0, math.inf),  # ramp, before the zone
        (-50.0, 4.0, 1.0, 0.0, 0.0, math.inf),  # highway, before the zone
        (0.0, 0.0, 0.0, 0.0, 0.0, math.inf),
    )
    ahead, behind = road.nearest(cars, behind=False), road.nearest(cars, behind=True)
    assert ahead.gap[0, :5].tolist() == [math.inf, 10.0, 5.0, 30.0, 30.0]
    assert ahead.speed[0, 1:5].tolist() == [8.0, 7.0, 7.0, 6.0]
    assert ahead.other[0].tolist() == [False, False, True, False, False, False]
    assert behind.gap[0, :5].tolist() == [10.0, 5.0, 30.0, math.inf, math.inf]


@pytest.mark.parametrize(("speed", "branch", "gap"), [(0.0, 0.0, math.inf), (0.6, 0.0, 5.0), (0.0, 1.0, 5.0)])
def test_only_the_courteous_wait_for_a_car_that_stands_on_the_other_branch(
    speed: float, branch: float, gap: float
) -> None:
    cars = cars_at((-5.0, speed, 2.0, 1.0, 0.0, -1.5), (-15.0, 6.0, 1.0, branch, 1.0, math.inf))
    assert road.nearest(cars, behind=False).gap[0, 1] == 5.0
    assert road.nearest(cars, behind=False, slowest=0.5).gap[0, 1] == gap


def test_a_parked_car_holds_up_the_highway_of_the_courteous_alone() -> None:
    cars = cars_at((-5.0, 0.0, 2.0, 1.0, 0.0, -1.5), (-15.0, 6.0, 1.0, 0.0, 0.0, math.inf))
    held = cars
    for _ in range(40):
        cars, held = road.move(cars, 0.5), road.move(held)
    assert cars.position[0, 0] > 20.0
    assert held.position[0].max() <= -5.0


def test_a_car_stops_behind_a_standing_one_from_any_speed_it_may_have() -> None:
    cars = cars_at((50.0, 0.0, 2.0, 0.0, 0.0, 0.0), (-60.0, 25.0, 2.0, 0.0, 1.0, 1.5))
    for _ in range(300):
        cars = road.move(cars)
    assert float(cars.speed[0, 1]) < 0.2
    assert -0.5 < float(road.nearest(cars, behind=False).gap[0, 1]) < 2.0, "no collision"


def test_no_car_is_lost_between_entry_and_exit() -> None:
    env = Traffic(dtype=torch.float64)
    state = begin(env, 8, seed=0).env
    before = (env.cars(state).kind == 2.0).sum(1)
    for k in range(60):
        noise = torch.randn(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
        state, _ = env.transition(state, torch.full((8, 10), -1.5, dtype=torch.float64), noise)
        cars = env.cars(state)
        here = cars.kind > 0.0
        place = torch.where(here, cars.position, -1e9)
        assert (place[:, :-1] >= place[:, 1:]).all(), "in order, empty slots last"
        assert (cars.position[here] <= road.EXIT).all()
        assert ((cars.speed >= 0.0) & (cars.speed <= road.LIMIT)).all()
        now = (cars.kind == 2.0).sum(1)
        assert (now >= before).all(), "parked cars stay"
        before = now


def test_commands_go_to_the_first_controlled_cars_in_order_of_entry() -> None:
    rows = [(-10.0 * k, 5.0, 2.0, 1.0, float(11 - k), math.inf) for k in range(12)]
    told = command(cars_at(*rows), torch.arange(10.0, dtype=torch.float64).unsqueeze(0))
    assert told.command[0].tolist() == [math.inf, math.inf, *(float(9 - k) for k in range(10))]


def test_parking_pleases_the_proxy_and_ruins_the_truth() -> None:
    env = make("rlcore/Traffic-v0")
    park = Feedback(lambda obs: torch.full((len(obs), 10), -1.5))
    (base, fair), (hack, ruin) = (watch(env, p, paths=8, steps=300).totals() for p in (idm_policy(), park))
    assert hack > 1.3 * base
    assert ruin < 2.0 * fair < 0.0


def test_a_row_does_not_depend_on_the_batch_and_a_collision_ends_it() -> None:
    env = make("rlcore/Traffic-v0")
    many, _ = rollout(env, idm_policy(), begin(env, 5, seed=2), 20)
    few, _ = rollout(env, idm_policy(), begin(env, 2, seed=2, first_row=2), 20)
    torch.testing.assert_close(many.obs[:, 2:4], few.obs, rtol=1e-5, atol=1e-6)
    assert road.collided(cars_at((6.0, 0, 1, 0, 0, 0), (3.0, 0, 1, 1, 0, 0))).tolist() == [True]
    assert road.collided(cars_at((-6.0, 0, 1, 0, 0, 0), (-8.0, 0, 1, 1, 0, 0))).tolist() == [False]
    assert env.initial_state(torch.zeros(1, 14)).x.shape[1] == 6 * SLOTS + 3
    with pytest.raises(ConfigError, match="ramp_flow <= 3600"):
        make("rlcore/Traffic-v0", ramp_flow=7200.0)


def test_a_stop_is_followed_by_car_and_ends_when_the_car_moves() -> None:
    stops = Stops()

    def at(second: float, *speeds: tuple[float, float]) -> list[float]:
        """Time at rest of each slot, where slots are (order, speed) of controlled cars on the ramp."""
        rows = [(-10.0 * k, v, 2.0, 1.0, order, 0.0) for k, (order, v) in enumerate(speeds, 1)]
        state = EnvState(torch.tensor([second], dtype=torch.float64), torch.zeros(1, 1))
        return stops(state, cars_at(*rows))[0].tolist()

    assert at(1.0, (1.0, 0.0), (2.0, 5.0)) == [1.0, 0.0]
    assert at(2.0, (1.0, 0.0), (2.0, 0.0)) == [2.0, 1.0]
    assert at(3.0, (2.0, 0.0), (1.0, 0.0), (3.0, 0.0)) == [2.0, 3.0, 1.0], "slots are reordered, cars are not"
    assert at(4.0, (2.0, 4.0), (1.0, 0.0)) == [0.0, 4.0]
    assert at(1.0, (1.0, 0.0)) == [1.0], "another run"
