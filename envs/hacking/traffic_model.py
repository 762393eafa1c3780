"""Cars on a highway with an on-ramp: who follows whom, and how. Pure functions of batches of car slots.

Positions are front bumpers on one axis for both branches, 0 where they have become one lane [m]. Cars come as fields
[B, N] in an order from the first on the road to the last, empty slots behind all.

    IDM: a = 1 - (v/30)^4 - (s*/h)^2,   s* = 2 + max(0, v + v (v - v_leader) / (2 sqrt(1.5)))   m, s
    safe speed: -b tau + sqrt((b tau)^2 + v_leader^2 + 2 b h),   b = 4.5 m/s^2, tau = 0.2 s

Source: Treiber, Hennecke and Helbing, Physical Review E 62, 2000; Krauss, 1998, for the safe speed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

LENGTH = 5.0  # of a car [m]
LIMIT = 30.0  # [m/s]
HIGHWAY_IN, RAMP_IN, EXIT = -172.5, -122.5, 75.0  # [m]
ZONE = 22.5  # last metres before the merge, in which cars see those of the other branch
ROAD = EXIT - HIGHWAY_IN - RAMP_IN  # all of it, the unit of gaps in an observation [m]
EASE = 0.2  # metres of gap that a metre before the merge stands for
STEP = 0.2  # [s]
HARDEST, EMERGENCY = 4.5, 9.0  # [m/s^2] braking by the car-following law, and to keep a safe speed
HIGHWAY, RAMP = 0.0, 1.0  # branches
EMPTY, HUMAN, CONTROLLED = 0.0, 1.0, 2.0  # kinds


class Cars(NamedTuple):
    """Slots of cars, each field [B, N]."""

    position: Tensor  # m
    speed: Tensor  # m/s
    kind: Tensor
    branch: Tensor
    order: Tensor  # number of cars that entered before
    command: Tensor  # acceleration asked for [m/s^2]; inf leaves it to the car-following law


class Neighbour(NamedTuple):
    """The nearest car ahead or behind, each [B, N]; without one, at an infinite gap."""

    gap: Tensor  # bumper to bumper [m]
    speed: Tensor  # m/s
    other: Tensor  # bool, whether it is still on the other branch


def equilibrium_gap(speed: float) -> float:
    """Gap at which a car keeps this speed behind an equally fast one: (2 + v) / sqrt(1 - (v/30)^4) [m]."""
    return (2.0 + speed) / math.sqrt(1.0 - (speed / LIMIT) ** 4)


def wanted_gap(speed: Tensor, leader: Tensor) -> Tensor:
    """s*, the gap that a driver wants [m]."""
    return 2.0 + (speed + speed * (speed - leader) / (2.0 * math.sqrt(1.5))).clamp(min=0.0)


def idm(speed: Tensor, leader: Tensor, gap: Tensor) -> Tensor:
    """Acceleration of the intelligent driver model [m/s^2]."""
    return 1.0 - (speed / LIMIT) ** 4 - (wanted_gap(speed, leader) / gap.clamp(min=0.1)) ** 2


def safe_speed(leader: Tensor, gap: Tensor) -> Tensor:
    """The speed from which a car can still stop behind a leader that brakes now [m/s]."""
    reach = HARDEST * STEP
    return (reach**2 + leader**2 + 2.0 * HARDEST * gap).clamp(min=0.0).sqrt() - reach


def in_order(cars: Cars) -> Cars:
    """The same cars from the first on the road to the last."""
    place = torch.where(cars.kind > EMPTY, cars.position, -math.inf)
    index = place.argsort(dim=1, descending=True, stable=True)
    return Cars(*(field.gather(1, index) for field in cars))


def nearest(cars: Cars, *, behind: bool, slowest: float = 0.0) -> Neighbour:
    """The car ahead that each gives way to, or the one behind: on its own branch or past the merge; any, in the zone.

    In the zone those of the other branch count from a speed of `slowest` [m/s]. The cars stand in order, so that it is
    the last member of a group that a walk along the road has passed.
    """
    place, speed, branch, here = cars.position, cars.speed, cars.branch, cars.kind > EMPTY
    if behind:
        place, speed, branch, here = (field.flip(1) for field in (place, speed, branch, here))
    near, merged = place > -ZONE, place >= 0.0
    highway, ramp = (last_seen(here & ((branch == lane) | merged)) for lane in (HIGHWAY, RAMP))
    own, close = torch.where(branch == HIGHWAY, highway, ramp), last_seen(here & near & (merged | (speed >= slowest)))
    index = torch.where(near, torch.maximum(close, own), own)
    seen = index.clamp(min=0)
    gap, found = (place.gather(1, seen) - place).abs() - LENGTH, (index >= 0) & here
    other = found & (place.gather(1, seen) < 0.0) & (branch.gather(1, seen) != branch)
    parts = torch.where(found, gap, math.inf), torch.where(found, speed.gather(1, seen), LIMIT), other
    return Neighbour(*(field.flip(1) for field in parts)) if behind else Neighbour(*parts)


def eased(cars: Cars, ahead: Neighbour) -> Neighbour:
    """Cars open a gap to one of the other branch by the merge, not at once: before, it counts EASE more per metre."""
    left = (-cars.position).clamp(min=0.0)  # m to the merge
    return ahead._replace(gap=torch.where(ahead.other, ahead.gap + EASE * left, ahead.gap))


def last_seen(members: Tensor) -> Tensor:  # bool [B, N] -> [B, N]
    """Slot of the last member before each slot; -1 before the first."""
    slots = torch.arange(members.shape[1], device=members.device)
    upto = torch.where(members, slots, -1).cummax(1).values
    return torch.cat([torch.full_like(upto[:, :1], -1), upto[:, :-1]], 1)


def move(cars: Cars, slowest: float = 0.0) -> Cars:
    """One step of 0.2 s: every car by its command or the law, never faster than is safe; then the cars in order."""
    ahead = eased(cars, nearest(cars, behind=False, slowest=slowest))
    law = idm(cars.speed, ahead.speed, ahead.gap).clamp(min=-HARDEST)
    wanted = torch.where(torch.isfinite(cars.command), cars.command, law)
    after = torch.minimum(cars.speed + STEP * wanted, safe_speed(ahead.speed, ahead.gap))
    after = torch.maximum(after, cars.speed - STEP * EMERGENCY).clamp(0.0, LIMIT)
    there = torch.where(cars.kind > EMPTY, cars.position + 0.5 * STEP * (cars.speed + after), cars.position)
    kind = torch.where(there > EXIT, EMPTY, cars.kind)
    return in_order(cars._replace(position=there, speed=after, kind=kind))


def enter(cars: Cars, branch: float, kind: Tensor, number: Tensor, asked: Tensor) -> tuple[Cars, Tensor]:
    """Let a car in where one asks, a slot is free and the gap is what its driver wants: [B] each -> cars, who came in.

    A free slot is the last one; `number` is the car's order.
    """
    start, speed = (HIGHWAY_IN, 10.0) if branch == HIGHWAY else (RAMP_IN, 7.5)
    own = (cars.kind > EMPTY) & (cars.branch == branch) & (cars.position < 0.0)
    place = torch.where(own, cars.position, math.inf)
    gap, index = place.min(1)
    ahead = torch.where(own.any(1), cars.speed.gather(1, index.unsqueeze(1)).squeeze(1), LIMIT)
    room = gap - LENGTH - start >= wanted_gap(torch.full_like(ahead, speed), ahead)
    comes = asked & room & (cars.kind[:, -1] == EMPTY)
    new = [torch.full_like(ahead, value) for value in (start, speed)] + [kind, torch.full_like(ahead, branch), number]
    new.append(torch.full_like(ahead, math.inf))
    fields = [
        torch.cat([field[:, :-1], torch.where(comes, value, field[:, -1]).unsqueeze(1)], 1)
        for field, value in zip(cars, new, strict=True)
    ]
    return in_order(Cars(*fields)), comes


def collided(cars: Cars) -> Tensor:  # -> bool [B]
    """Whether two cars overlap past the merge, by more than the 0.5 m that safe speeds may overshoot."""
    gap = nearest(cars, behind=False).gap
    return ((gap < -0.5) & (cars.position >= 0.0)).any(1)
