"""The 30 virtual patients of the UVA/Padova S2008 model as a table of parameters.

The numbers are those of simglucose (Jinyu Xie, MIT licence, beside this file); time in minutes, glucose in mg/kg,
insulin in pmol/kg. Source: Kovatchev et al., "In silico preclinical trials", J. Diabetes Sci. Technol. 3, 2009;
Dalla Man, Rizza and Cobelli, "Meal simulation model of the glucose-insulin system", IEEE Trans. Biomed. Eng. 54, 2007.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rlcore.errors import unknown_name

STATES = 13
TABLE = Path(__file__).with_name("glucose_patients.csv")
AGE = (18, 19, 15, 17, 16, 14, 16, 14, 19, 17, *(45,) * 10, 9, 9, 8, 12, 10, 8, 9, 10, 7, 12)  # [years], in table order
HEIGHT = {7: 122, 8: 128, 9: 133, 10: 139, 12: 149, 14: 164, 15: 170, 16: 173, 17: 175, 18: 176, 19: 177, 45: 177}
"""Median height [cm] of boys by age (growth charts of the CDC, 2000); 177 cm for adults."""


class Patient(NamedTuple):
    """Parameters of the model, each [] or [B], with the names of the publications."""

    BW: Tensor  # body weight [kg]
    Vg: Tensor  # volume of glucose [dL/kg]
    Vi: Tensor  # volume of insulin [L/kg]
    Ib: Tensor  # basal insulin [pmol/L]
    u2ss: Tensor  # basal infusion [pmol/kg/min]
    kabs: Tensor  # rates without other unit: 1/min
    kmax: Tensor
    kmin: Tensor
    b: Tensor
    d: Tensor
    f: Tensor
    kp1: Tensor
    kp2: Tensor
    kp3: Tensor
    ki: Tensor
    k1: Tensor
    k2: Tensor
    m1: Tensor
    m2: Tensor
    m4: Tensor
    m30: Tensor
    ka1: Tensor
    ka2: Tensor
    kd: Tensor
    ksc: Tensor
    Vm0: Tensor
    Vmx: Tensor
    Km0: Tensor
    p2u: Tensor
    ke1: Tensor
    ke2: Tensor
    Fsnc: Tensor
    basal: Tensor  # infusion that holds the steady state, u2ss BW / 6000 [U/min]
    unit: Tensor  # 6000 / BW, of insulin [pmol/kg per U]
    appears: Tensor  # f kabs / BW [1/kg/min]
    half: Tensor  # (kmax - kmin) / 2
    steep_b: Tensor  # 5 / (2 (1 - b))
    steep_d: Tensor  # 5 / (2 d)
    m24: Tensor  # m2 + m4
    m130: Tensor  # m1 + m30


def derived(row: dict[str, float]) -> dict[str, float]:
    """A row of the table with the products that the equations use."""
    return row | {
        "basal": row["u2ss"] * row["BW"] / 6000.0,
        "unit": 6000.0 / row["BW"],
        "appears": row["f"] * row["kabs"] / row["BW"],
        "half": 0.5 * (row["kmax"] - row["kmin"]),
        "steep_b": 2.5 / (1.0 - row["b"]),
        "steep_d": 2.5 / row["d"],
        "m24": row["m2"] + row["m4"],
        "m130": row["m1"] + row["m30"],
    }


@lru_cache(maxsize=1)
def read() -> dict[str, dict[str, float]]:
    """The table: name of the patient -> name of the column -> value."""
    with TABLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        row.pop("Name"): derived({key.replace(" ", ""): float(value) for key, value in row.items()}) for row in rows
    }


def names(which: str = "all") -> list[str]:
    """Names of the patients of a group (adult, adolescent, child or all), or the one name given."""
    known = list(read())
    chosen = [name for name in known if which in ("all", name, name.partition("#")[0])]
    if not chosen:
        raise unknown_name("patient", which, [*known, "adult", "adolescent", "child", "all"])
    return chosen


def columns(chosen: list[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Parameters [F, P], steady states [13, P] and carbohydrates of a day [P] in g, in float64."""
    table = read()
    known = list(table)
    parameters = [[table[name][field] for name in chosen] for field in Patient._fields]
    steady = [[table[name][f"x0_{i + 1}"] for name in chosen] for i in range(STATES)]
    carbs = [daily_carbohydrates(table[name]["BW"], AGE[known.index(name)]) for name in chosen]
    x, y, z = (torch.tensor(values, dtype=torch.float64) for values in (parameters, steady, carbs))
    return x, y, z


def daily_carbohydrates(weight: float, age: int) -> float:
    """Grams a day: 45 % of 1.2 times the basal metabolic rate of Harris and Benedict (1918), at 4 kcal/g."""
    return 1.2 * (66.5 + 13.75 * weight + 5.003 * HEIGHT[age] - 6.755 * age) * 0.45 / 4.0
