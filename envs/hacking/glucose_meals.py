"""What a patient eats: three meals and three snacks a day, each skipped, timed and sized at random.

| meal      | probability | time [h]: mean, sd, window | share of a day, over 4.4 |
|-----------|-------------|----------------------------|--------------------------|
| breakfast | 0.95        | 7, 1, 5 to 9               | 1.1                      |
| snack     | 0.3         | 9.5, 0.5, 9 to 10          | 0.15                     |
| lunch     | 0.95        | 12, 1, 10 to 14            | 1.3                      |
| snack     | 0.3         | 15, 0.5, 14 to 16          | 0.15                     |
| dinner    | 0.95        | 18, 1, 16 to 20            | 1.55                     |
| snack     | 0.3         | 21.5, 0.5, 20 to 23        | 0.15                     |

Times are truncated normal, sizes normal with a standard deviation of 15 %, both rounded. No two windows overlap: one
planned meal is all that a state has to remember, and each is drawn when its window opens.
Source: Fox et al., "Deep reinforcement learning for closed-loop blood glucose control", MLHC 2020.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

DAY = 1440  # [min]
SKIPPED = -1.0  # time of a meal that is not eaten

_MEALS = (  # probability, mean, sd, opens, closes [h], share
    (0.95, 7.0, 1.0, 5.0, 9.0, 1.1),
    (0.3, 9.5, 0.5, 9.0, 10.0, 0.15),
    (0.95, 12.0, 1.0, 10.0, 14.0, 1.3),
    (0.3, 15.0, 0.5, 14.0, 16.0, 0.15),
    (0.95, 18.0, 1.0, 16.0, 20.0, 1.55),
    (0.3, 21.5, 0.5, 20.0, 23.0, 0.15),
)


def cumulative(z: Tensor) -> Tensor:
    """Standard normals -> uniform in [0, 1]."""
    return 0.5 * (1.0 + torch.erf(z * math.sqrt(0.5)))


def table(dtype: torch.dtype, device: torch.device) -> Tensor:  # [6, 7]
    """For each meal: opening minute, probability, mean and sd [min], both ends of the uniform, share of a day."""
    rows = []
    for probability, mean, sd, opens, closes, share in _MEALS:
        low, high = (0.5 * (1.0 + math.erf((end - mean) / sd / math.sqrt(2.0))) for end in (opens, closes))
        rows.append((60.0 * opens, probability, 60.0 * mean, 60.0 * sd, low, high, share / 4.4))
    return torch.tensor(rows, dtype=dtype, device=device)


def plan(
    meals: Tensor, clock: Tensor, minute: Tensor, size: Tensor, daily: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:  # [6, 7], [B] min of the day, [B] min, [B] g, [] or [B] g a day, [B, 3] -> [B], [B]
    """Time and size of the planned meal: a new one where a window opens now, otherwise the old one."""
    opens = clock.unsqueeze(1) == meals[:, 0]  # bool [B, 6]
    _, probability, mean, sd, low, high, share = (opens.to(clock) @ meals).unbind(1)  # zeros where none opens
    place = (low + (high - low) * cumulative(noise[:, 0])).clamp(1e-6, 1.0 - 1e-6)
    time = (mean + sd * math.sqrt(2.0) * torch.erfinv(2.0 * place - 1.0)).round()
    grams = (daily * share * (1.0 + 0.15 * noise[:, 1])).clamp(min=0.0).round()
    eaten = cumulative(noise[:, 2]) < probability
    new = opens.any(1)
    time, grams = torch.where(eaten, time, SKIPPED), torch.where(eaten, grams, 0.0)
    return torch.where(new, time, minute), torch.where(new, grams, size)
