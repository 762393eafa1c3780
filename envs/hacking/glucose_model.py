"""Glucose and insulin of a patient with type 1 diabetes: the UVA/Padova S2008 equations, as pure functions of batches.

| row   | state                                              | unit    |
|-------|----------------------------------------------------|---------|
| 0, 1  | carbohydrates in the stomach, solid and liquid     | mg      |
| 2     | carbohydrates in the gut                           | mg      |
| 3, 4  | glucose Gp in plasma, Gt in tissue                 | mg/kg   |
| 5     | insulin Ip in plasma                               | pmol/kg |
| 6     | insulin action X on utilisation                    | pmol/L  |
| 7, 8  | insulin I1 and XL, delayed on the way to the liver | pmol/L  |
| 9     | insulin Il in the liver                            | pmol/kg |
| 10, 11| insulin under the skin, two depots                 | pmol/kg |
| 12    | glucose Gs under the skin                          | mg/kg   |

Time in minutes. States come as [13, B], so that each is one contiguous row.
Source: Dalla Man, Rizza and Cobelli, IEEE Transactions on Biomedical Engineering 54, 2007; Kovatchev et al., 2009.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from rlcore.envs.hacking.glucose_patients import Patient


class Inputs(NamedTuple):
    """What is constant over a minute."""

    carbs: Tensor  # [B] g/min eaten
    insulin: Tensor  # [B] U/min
    meal: Tensor  # [B] D, the size of the meal in progress [mg]; 0 before the first


def emptying(p: Patient, stomach: Tensor, meal: Tensor) -> Tensor:  # mg, mg -> 1/min
    """Rate kgut at which the stomach empties: fast when it is full or almost empty, slow between.

    kgut = kmin + (kmax - kmin)/2 (tanh(5 (q/D - b) / (2 (1 - b))) - tanh(5 (q/D - d) / (2 d)) + 2), q in the stomach of
    a meal D; kmax before the first meal.
    """
    begun = meal > 0.0
    share = stomach / torch.where(begun, meal, 1.0)
    full, empty = torch.tanh(p.steep_b * (share - p.b)), torch.tanh(p.steep_d * (share - p.d))
    return torch.where(begun, p.kmax + p.half * (full - empty), p.kmax)


def rates(p: Patient, x: Tensor, given: Inputs) -> Tensor:  # [13, B] -> [13, B] per min
    """The right-hand side of the thirteen equations.

    Plasma glucose rests where it is negative. The model says so of six more states, none of which can become negative.
    """
    solid, liquid, gut, gp, gt, ip, action, i1, xl, il, depot1, depot2, gs = x.unbind()
    emptied = emptying(p, solid + liquid, given.meal) * liquid
    production = (p.kp1 - p.kp2 * gp - p.kp3 * xl).clamp(min=0.0)  # EGP
    excretion = p.ke1 * (gp - p.ke2).clamp(min=0.0)  # E
    utilisation = (p.Vm0 + p.Vmx * action) * gt / (p.Km0 + gt)
    exchange = p.k1 * gp - p.k2 * gt
    dissolved, moved, entered = p.kmax * solid, p.kd * depot1, p.ka1 * depot1
    level = ip / p.Vi  # I
    plasma = production + p.appears * gut - p.Fsnc - excretion - exchange
    return torch.stack(
        [
            1000.0 * given.carbs - dissolved,
            dissolved - emptied,
            emptied - p.kabs * gut,
            torch.where(gp < 0.0, 0.0, plasma),
            exchange - utilisation,
            p.m1 * il + entered + p.ka2 * depot2 - p.m24 * ip,
            p.p2u * (level - p.Ib - action),
            p.ki * (level - i1),
            p.ki * (i1 - xl),
            p.m2 * ip - p.m130 * il,
            p.unit * given.insulin - entered - moved,
            moved - p.ka2 * depot2,
            p.ksc * (gp - gs),
        ]
    )


def stage(table: Tensor, x: Tensor, slope: Tensor, ahead: Tensor, given: Inputs) -> Tensor:
    """Rates at x + ahead slope: [F] or [F, B] parameters, [13, B], [13, B] per min, [] min -> [13, B] per min."""
    return rates(Patient(*table.unbind()), x + ahead * slope, given)


Stage = Callable[[Tensor, Tensor, Tensor, Tensor, Inputs], Tensor]


@lru_cache(maxsize=1)
def compiled_stage() -> Stage:
    """`stage` as one graph, of any batch size; made once in a process. A graph of a whole step would take minutes."""
    return torch.compile(stage, fullgraph=True, dynamic=True)


class RungeKutta:
    """The classical rule with a fixed step; the fastest rate, 1.3 per min, is well inside stability at 1 min."""

    def __init__(
        self, dtype: torch.dtype, device: torch.device, *, minutes: float = 1.0, compiled: bool = False
    ) -> None:
        self.minutes, self.stage = minutes, compiled_stage() if compiled else stage
        self.none, self.half, self.whole = torch.tensor([0.0, 0.5 * minutes, minutes], dtype=dtype, device=device)

    def advance(self, table: Tensor, x: Tensor, given: Inputs) -> Tensor:  # [F] or [F, B], [13, B] -> [13, B]
        """The state one step later."""
        k1 = self.stage(table, x, torch.zeros_like(x), self.none, given)
        k2 = self.stage(table, x, k1, self.half, given)
        k3 = self.stage(table, x, k2, self.half, given)
        k4 = self.stage(table, x, k3, self.whole, given)
        return torch.add(x, torch.add(k1 + k4, k2 + k3, alpha=2.0), alpha=self.minutes / 6.0)


class Plate(NamedTuple):
    """What is on the table, and the meal in progress: each [B]."""

    waiting: Tensor  # g that are still to be eaten
    before: Tensor  # mg in the stomach when the meal began
    eaten: Tensor  # g of this meal so far
    eating: Tensor  # 1 if the last minute was one of eating


FASTEST = 5.0  # [g/min] that anybody eats


def bite(x: Tensor, plate: Plate, served: Tensor, gram: float) -> tuple[Tensor, Plate, Tensor]:
    """A minute at the table: food [13, B] mg, served [B] g -> eaten [B] g, the plate after it, size of the meal [B] mg.

    A meal counts as what was in the stomach when it began plus `gram` times what was eaten of it.
    """
    waiting = plate.waiting + served
    eaten = waiting.clamp(max=FASTEST)
    eats = eaten > 0.0
    starts = eats & (plate.eating == 0.0)
    before = torch.where(starts, x[0] + x[1], plate.before)
    so_far = torch.where(starts, 0.0, plate.eaten) + eaten
    return eaten, Plate(waiting - eaten, before, so_far, eats.to(x)), before + gram * so_far


def blood_glucose(p: Patient, x: Tensor) -> Tensor:  # [13, B] -> [B]
    """Glucose under the skin, where sensors measure [mg/dL]."""
    return x[12] / p.Vg
