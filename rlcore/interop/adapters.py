"""A policy, its reference and its frozen copies as adapters of one model (PEFT), of which only the adapters are kept.

The reference is the model with its adapters switched off: its layers stay wrapped, and would go on adding what was
learned, if they were only called by another name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from rlcore.errors import ConfigError
from rlcore.interop.huggingface import HuggingFaceModel, extra


class AdapterCopies(nn.Module):
    """The same as `WholeCopies`, with one model in memory."""

    def __init__(self, model: nn.Module, names: Sequence[str], settings: Any = None) -> None:
        """`settings` (a `PeftConfig`) wraps a plain model; without them the model is a `PeftModel` already."""
        super().__init__()
        peft = extra("peft")
        wrapped: Any = model if settings is None else peft.get_peft_model(model, settings)
        if not isinstance(wrapped, peft.PeftModel):
            raise ConfigError(f"adapters need a PeftModel or a peft_config, got a {type(model).__name__} and none")
        self.live = str(wrapped.active_adapter)
        self.read_state, self.write_state = peft.get_peft_model_state_dict, peft.set_peft_model_state_dict
        for name in names:
            wrapped.add_adapter(name, wrapped.peft_config[self.live])
        self.wrapped = HuggingFaceModel(wrapped)
        for name in names:
            self.take(name)
        self.activate("policy")
        self.register_load_state_dict_post_hook(forget_base)  # type: ignore[no-untyped-call]

    @property
    def network(self) -> Any:
        """What is saved in the end: the adapter."""
        return self.wrapped.model

    def trainable(self) -> list[nn.Parameter]:
        """The weights of the live adapter."""
        self.activate("policy")
        return [p for p in self.network.parameters() if p.requires_grad]

    def activate(self, name: str) -> None:
        """Make what `name` stands for the one that reads; only the policy's weights ask for gradients."""
        self.network.set_adapter(self.live if name == "policy" else name)

    def model(self, name: str) -> AdapterView:
        """The policy, the reference or a frozen copy."""
        return AdapterView(self, name)

    def take(self, name: str) -> None:
        """Make the frozen adapter `name` what the policy is now."""
        if name == "reference":
            raise ConfigError("with adapters the reference is the model without them and cannot move; merge them first")
        state = self.read_state(self.network, adapter_name=self.live)
        self.write_state(self.network, state, adapter_name=name)

    def state_dict(self, *args: Any, **settings: Any) -> dict[str, Any]:  # type: ignore[override]
        """The adapters alone: the model below them never changes."""
        found: dict[str, Any] = super().state_dict(*args, **settings)
        prefix = str(settings.get("prefix", ""))
        own = {f"{prefix}{name}" for name, _ in self.named_parameters() if is_adapter(name, self.network)}
        for name in [key for key in found if key.startswith(prefix) and key not in own]:
            del found[name]
        return found


class AdapterView:
    """One of the policies that share a model, as a `CausalModel`."""

    def __init__(self, copies: AdapterCopies, name: str) -> None:
        self.copies, self.name = copies, name

    def start(self) -> Any:
        return self.copies.wrapped.start()

    def read(self, tokens: Tensor, mask: Tensor, memory: Any = None, last: bool = False) -> Tensor:
        if self.name == "reference":
            with self.copies.network.disable_adapter():
                return self.copies.wrapped.read(tokens, mask, memory, last)
        self.copies.activate(self.name)
        return self.copies.wrapped.read(tokens, mask, memory, last)


def is_adapter(name: str, network: Any) -> bool:
    """Whether a parameter's name has that of an adapter as one of its parts."""
    return any(part in network.peft_config for part in name.split("."))


def forget_base(module: nn.Module, incompatible: Any) -> None:
    """The weights below the adapters are not in a checkpoint, and need not be."""
    assert isinstance(module, AdapterCopies)
    kept = [name for name in incompatible.missing_keys if is_adapter(name, module.network)]
    incompatible.missing_keys[:] = kept
