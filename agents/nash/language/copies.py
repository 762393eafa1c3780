"""A policy, its reference and its frozen copies: whole models here, adapters of one in `rlcore.interop.peft`."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from torch import nn

from rlcore.errors import ConfigError
from rlcore.interop.huggingface import causal
from rlcore.nn.generation import CausalModel


class WholeCopies(nn.Module):
    """Each a model of its own."""

    def __init__(self, model: nn.Module, names: Sequence[str], reference: nn.Module | None = None) -> None:
        """`names` of the frozen copies; they begin as the policy. Without a reference that is a copy, too."""
        super().__init__()
        if reference is model:
            raise ConfigError(
                "ref_model is model: it would learn with the policy; give None, and a frozen copy is made"
            )
        self.policy = causal(model)
        self.reference = frozen(causal(deepcopy(model) if reference is None else reference))
        self.others = nn.ModuleDict({name: frozen(deepcopy(self.policy)) for name in names})

    @property
    def network(self) -> nn.Module:
        """What is saved in the end."""
        found: nn.Module = getattr(self.policy, "model", self.policy)
        return found

    def trainable(self) -> list[nn.Parameter]:
        """What learns."""
        return [p for p in self.policy.parameters() if p.requires_grad]

    def model(self, name: str) -> CausalModel:
        """The policy, the reference or a frozen copy."""
        found: Any = getattr(self, name) if name in ("policy", "reference") else self.others[name]
        return found  # type: ignore[no-any-return]

    def take(self, name: str) -> None:
        """Make the frozen model `name` what the policy is now."""
        target = self.reference if name == "reference" else self.others[name]
        target.load_state_dict(self.policy.state_dict())


def frozen(model: nn.Module) -> Any:
    """Without gradients and without dropout."""
    return model.requires_grad_(False).eval()
