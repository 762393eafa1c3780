"""An epidemic in a town of 500: two variants, eight groups by age and risk, in whole people. Pure functions of batches.

    S -> E -> before symptoms -> with or without symptoms -> recovered, or in need of a hospital -> recovered or dead

Every exit is binomial, by daily probabilities of the PandemicSimulator; who needs a bed and finds none is worse off.
Infections follow a contact matrix that the regulations of a stage shrink:

    force on group g, variant v: p_v m sum_g' contacts(stage)_gg' infectious_vg' / people_g'

with m the mean of what people's habits leave of the transmission: 0.8 for hygiene, 0.6 for masks.
Source: Kompella et al., "Reinforcement learning for optimization of COVID-19 mitigation policies", 2020.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

PEOPLE, BEDS, EXPOSED = 500.0, 5.0, 6
GROUPS, VARIANTS = 8, 2
AGES = (9.0, 33.0, 57.0, 73.0)  # mean age [years] of 0-17, 18-49, 50-64, 65 and older
SHARES = (0.22, 0.43, 0.19, 0.16)  # of the people
WORSE = ((0.013, 0.132), (0.013, 0.132), (0.029, 0.286), (0.034, 0.339))  # y, by age and low or high risk
DEATH = ((0.23, 0.23), (0.23, 0.23), (0.33, 0.33), (0.43, 0.43))  # d, without a bed
DEATH_IN_BED = ((0.03, 0.03), (0.03, 0.03), (0.12, 0.12), (0.23, 0.23))  # d'
TRANSMISSION = (0.021, 0.0315)  # per hour of contact, by variant
COMPLIANCE = 0.99
HABITS = (1.0, 0.8, 0.48, 0.48, 0.48)  # transmission left by hygiene and masks, by stage
DISTANCE = (0.0, 0.0, 0.3, 0.5, 0.7)
EXACT = 16  # terms of a binomial law; a larger mean is taken as normal

S, E, PRE_A, PRE_Y, A, Y, NEED, BED = range(8)  # compartments: S first, then those of each variant


class Town(NamedTuple):
    """What is known of the town."""

    people: Tensor  # [8] by group
    ages: Tensor  # [4] people by age
    upto: Tensor  # [7] share of the people in each group and those before it
    leave: Tensor  # [7, 8] daily probability of leaving E to BED
    worse: Tensor  # [4, 8] share for whom leaving E, Y, NEED, BED is for the worse; without symptoms, from E
    every: Tensor  # [5, 4, 4] h/day by stage, as `contacts`
    home: Tensor  # [4, 4] h/day


def founded(dtype: torch.dtype, device: torch.device) -> Town:
    """The town."""
    people, h, d, inside = groups(dtype, device)
    worsens, recovers = 0.1695 * h, 0.25 * (1.0 - h)
    dies, lives = 0.3 * d, 0.0214 * (1.0 - d)
    dies_in_bed, lives_in_bed = inside / 8.1, (1.0 - inside) / 10.7
    flat = torch.ones_like(h)
    after_illness, after_need, after_bed = worsens + recovers, dies + lives, dies_in_bed + lives_in_bed
    leave = [flat / 2.9, flat / 2.3, flat / 2.3, flat / 4.27, after_illness, after_need, after_bed]
    worse = [0.57 * flat, worsens / after_illness, dies / after_need, dies_in_bed / after_bed]
    return Town(
        people=people,
        ages=people.view(4, 2).sum(1),
        upto=(people / people.sum()).cumsum(0)[:-1],
        leave=torch.stack(leave),
        worse=torch.stack(worse),
        every=contacts(dtype, device)[0],
        home=contacts(dtype, device)[1],
    )


def groups(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """People, h, d, d' of each group, age by age, low risk first: [8] each."""
    people, sizes = [], [round(PEOPLE * share) for share in SHARES]
    for age, size in zip(AGES, sizes, strict=True):
        high = round(size * age / 101.0)
        people += [size - high, high]
    y = torch.tensor(WORSE, dtype=torch.float64).flatten()
    rows = [people, 0.25 * y / (0.1695 + 0.0805 * y), *(torch.tensor(d).flatten() for d in (DEATH, DEATH_IN_BED))]
    n, h, d, inside = (torch.as_tensor(row, dtype=dtype, device=device) for row in rows)
    return n, h, d, inside


def contacts(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:  # [5, 4, 4], [4, 4] h/day
    """Hours of contact a day between ages, of the healthy by stage, and at home: rows give, columns are met."""
    shares = torch.tensor(SHARES, dtype=torch.float64)
    everybody = shares.expand(4, 4)
    home = 5.0 * everybody
    school, office = torch.zeros(2, 4, 4, dtype=torch.float64)
    school[0, 0] = 7.0
    office[1:3, 1:3] = 6.0 * shares[1:3] / shares[1:3].sum()
    shops, social = 2.0 * everybody, 5.0 * everybody
    stages = []
    for stage, distance in enumerate(DISTANCE):
        open_to = [stage < 2, stage < 4, 1.0 if stage < 2 else 0.8 if stage < 4 else 0.4]
        met = (1.0, 1.0, 0.5, 0.2, 0.2)[stage]
        public = open_to[0] * school + open_to[1] * office + open_to[2] * shops + met * social
        stages.append(home + (1.0 - distance) * public)
    return torch.stack(stages).to(device, dtype), home.to(device, dtype)


def habits(stage: Tensor, before: Tensor, *, legacy: bool) -> Tensor:  # [B] in 0..4, [B] -> [B]
    """m after a day at a stage, which 99 % keep to and 1 % ignore; legacy multiplies it onto that of the day before."""
    left = torch.tensor(HABITS, dtype=before.dtype, device=before.device)[stage.long()]
    return COMPLIANCE * left * (before if legacy else 1.0) + (1.0 - COMPLIANCE)


def binomial(count: Tensor, chance: Tensor, noise: Tensor) -> Tensor:
    """How many of `count` it befalls, from a standard normal: the inverse of the law, or its normal limit above 8."""
    p, uniform = chance.clamp(0.0, 1.0 - 1e-6), 0.5 * torch.erfc(noise * -math.sqrt(0.5))
    term = torch.exp(count * torch.log1p(-p))
    upto, number = term, torch.zeros_like(term)
    for k in range(EXACT):
        number = number + (uniform > upto).to(term)
        term = term * ((count - k).clamp(min=0.0) * p / ((k + 1.0) * (1.0 - p)))
        upto = upto + term
    mean = count * p
    large = (mean + (mean * (1.0 - p)).sqrt() * noise + 0.5).floor()
    return torch.minimum(torch.where(mean > 8.0, large, number).clamp(min=0.0), count)


def force(
    town: Town, infected: Tensor, stage: Tensor, m: Tensor
) -> Tensor:  # [B, 7, 2, 8], [B], [B] -> [B, 2, 8] per day
    """Chance rates of infection, by variant and group. The sick stay at home from stage 1 on; beds infect nobody."""
    by_age = torch.unflatten(infected, 3, (4, 2)).sum(4)  # [B, 7, 2, 4]
    up, ill = by_age[:, PRE_A - 1 : A].sum(1) / town.ages, by_age[:, Y - 1 : NEED].sum(1) / town.ages  # [B, 2, 4]
    out = town.every[stage.long()]  # [B, 4, 4]
    ill_out = torch.where((stage > 0.0).view(-1, 1, 1), town.home, out)
    met = torch.einsum("bij,bvj->bvi", out, up) + torch.einsum("bij,bvj->bvi", ill_out, ill)
    p = torch.tensor(TRANSMISSION, dtype=infected.dtype, device=infected.device).view(1, 2, 1)
    return (p * m.view(-1, 1, 1) * met).repeat_interleave(2, 2)


def day(
    town: Town, susceptible: Tensor, infected: Tensor, stage: Tensor, m: Tensor, noise: Tensor
) -> tuple[Tensor, ...]:
    """One day: S [B, 8], E to BED [B, 7, 2, 8], noise [B, 192] -> S, E to BED, newly recovered and dead [B, 8]."""
    rate = force(town, infected, stage, m)
    hit, which, leave, split = noise.split_with_sizes([8, 8, 112, 64], 1)
    caught = binomial(susceptible, -torch.expm1(-rate.sum(1)), hit)  # [B, 8]
    first = binomial(caught, rate[:, 0] / rate.sum(1).clamp(min=1e-12), which)
    gone = binomial(infected, town.leave.unsqueeze(1), leave.view(-1, 7, 2, 8))
    leaving = gone[:, [E - 1, Y - 1, NEED - 1, BED - 1]]
    worse = binomial(leaving, town.worse.unsqueeze(1), split.view(-1, 4, 2, 8))
    better = leaving - worse
    comes = [
        torch.stack([first, caught - first], 1),
        better[:, 0],
        worse[:, 0],
        gone[:, PRE_A - 1],
        gone[:, PRE_Y - 1],
        worse[:, 1],
        torch.zeros_like(worse[:, 1]),
    ]
    after = infected - gone + torch.stack(comes, 1)
    after = admit(after)
    recovered = gone[:, A - 1].sum(1) + better[:, 1:].sum((1, 2))
    return susceptible - caught, after, recovered, worse[:, 2:].sum((1, 2))


def admit(infected: Tensor) -> Tensor:  # [B, 7, 2, 8]
    """Give the free beds to those in need, the oldest first."""
    need, bed = infected[:, NEED - 1].flatten(1), infected[:, BED - 1].flatten(1)
    free = (BEDS - bed.sum(1, keepdim=True)).clamp(min=0.0)
    before = need.flip(1).cumsum(1).flip(1) - need
    taken = torch.minimum((free - before).clamp(min=0.0), need)
    moved = torch.stack([need - taken, bed + taken], 1).view(-1, 2, VARIANTS, GROUPS)
    return torch.cat([infected[:, : NEED - 1], moved], 1)
