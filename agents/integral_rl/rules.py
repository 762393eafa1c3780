"""Quadrature rules for integral reinforcement learning: several at once, and rules that bring their own nodes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlcore.errors import ConfigError
from rlcore.functional.quadrature import Quadrature, Rule
from rlcore.functional.quadrature.nodes import End


class SideBySide:
    """R rules on the same nodes [N]: weights [R, 1, N] for samples [R, W, N], one batch row of the agent for each rule.

    The standard deviation is nan in the rows of rules without a prior.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        if not rules:
            raise ConfigError("need at least one rule, got none")
        self.rules = tuple(rules)

    def at(self, times: Tensor, start: End = None, end: End = None, observed: Tensor | None = None) -> Quadrature:
        """Every rule on the same nodes."""
        each = [rule.at(times, start, end, observed) for rule in self.rules]
        nothing = torch.full_like(times[..., 0], torch.nan)

        def squares(values: Tensor) -> Tensor:  # [R, ..., N] -> [R, ...]
            rows = zip(each, values, strict=True)
            return torch.stack([values[0, ..., 0] * torch.nan if q.squares is None else q.squares(v) for q, v in rows])

        def column(parts: list[Tensor]) -> Tensor:
            return torch.stack(parts).unsqueeze(1)

        return Quadrature(
            times,
            column([q.weights for q in each]),
            column([nothing if q.variance is None else q.variance for q in each]),
            squares,
            column([torch.as_tensor(q.degrees, device=times.device).expand(times.shape[:-1]) for q in each]),
            observed=observed,
        )


class OwnNodes:
    """A rule on [0, 1] that chooses its nodes, such as Gauss and Legendre's; `places` are what a source must sample.

    The ends of the window, which the change of V needs in any case, are added with weight 0 where the rule has none.
    """

    def __init__(self, rule: Quadrature) -> None:
        places, weights, zero = rule.times, rule.weights, rule.times.new_zeros(1)
        if float(places[0]) > 0.0:
            places, weights = torch.cat([zero, places]), torch.cat([zero, weights])
        if float(places[-1]) < 1.0:
            places, weights = torch.cat([places, zero + 1.0]), torch.cat([weights, zero])
        self.places, self.weights = places, weights

    def at(self, times: Tensor, start: End = None, end: End = None, observed: Tensor | None = None) -> Quadrature:
        """The rule, stretched over the window; raises `ConfigError` for other nodes than its own."""
        length = (times[..., -1:] - times[..., :1]).double()
        places = self.places.to(times.device)
        own = times.shape[-1] == len(places) and observed is None and start is None and end is None
        if not own or not torch.allclose(times.double() - times[..., :1].double(), length * places, atol=1e-9):
            raise ConfigError("this rule integrates on its own nodes only; let the source sample at its `places`")
        return Quadrature(times, (length * self.weights.to(times.device)).to(times.dtype))
