"""Checks at public doors: expected, got, remedy. Inside the library nothing is checked twice."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real

import torch
from torch import Tensor

from rlcore.errors import ConfigError, DeviceError, NumericsError, RlcoreError, ShapeError


def check_shape(name: str, value: Tensor, expected: tuple[int, ...]) -> None:
    """Raise unless `value` has exactly the expected shape."""
    if tuple(value.shape) != expected:
        raise ShapeError(
            f"{name} must have shape {list(expected)}, got {list(value.shape)}; reshape it before the call"
        )


def check_map(name: str, function: Callable[[Tensor], Tensor], x: Tensor, expected: tuple[int, ...]) -> None:
    """Raise unless a user's function takes x and gives the expected shape."""
    try:
        found = function(x)
    except RlcoreError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ShapeError(
            f"{name} must take {x.dtype} {list(x.shape)} and give {list(expected)}, but failed: {reason}; fit it to "
            "the data"
        ) from error
    if not isinstance(found, Tensor):
        raise ShapeError(f"{name} must give a tensor {list(expected)}, got a {type(found).__name__}; convert it")
    check_shape(name, found, expected)


def check_tensors(**parts: object) -> None:
    """Raise unless these are tensors."""
    for name, part in parts.items():
        if not isinstance(part, Tensor):
            raise ShapeError(f"{name} must be a tensor, got a {type(part).__name__}; convert it with torch.as_tensor")


def check_finite(name: str, value: Tensor) -> None:
    """Raise if any entry is NaN or infinite, naming the first bad row."""
    finite = torch.isfinite(value)
    if not bool(finite.all()):
        where = torch.nonzero(~finite)[0].tolist()
        raise NumericsError(
            f"{name} must be finite, got {value[tuple(where)].item()} at index {where}; lower the rate or the time step"
        )


def check_real(name: str, *values: object) -> None:
    """Raise unless these are real numbers, whatever their size."""
    for value in values:
        if not isinstance(value, Real):
            raise ConfigError(f"{name} must be a number, got {value!r}; give it as a number such as 0.1")


def check_integer(name: str, *values: object) -> None:
    """Raise unless these are whole numbers."""
    for value in values:
        if not isinstance(value, Integral):
            raise ConfigError(f"{name} must be a whole number, got {value!r}; give it as an integer such as 1")


def check_positive(name: str, value: float, unit: str = "") -> None:
    """Raise unless 0 < value < inf (this also refuses NaN)."""
    check_real(name, value)
    if not 0.0 < value < math.inf:
        raise ConfigError(f"{name} must be positive and finite, got {value} {unit}".rstrip())


def check_not_negative(name: str, value: float, unit: str = "") -> None:
    """Raise unless 0 <= value < inf (this also refuses NaN)."""
    check_real(name, value)
    if not 0.0 <= value < math.inf:
        raise ConfigError(f"{name} must not be negative and must be finite, got {value} {unit}".rstrip())


def check_numbers(name: str, *values: float) -> None:
    """Raise if any of these coefficients is NaN or infinite."""
    check_real(name, *values)
    if not all(math.isfinite(value) for value in values):
        raise ConfigError(f"{name} must be finite numbers, got {', '.join(str(value) for value in values)}")


def check_device(device: str | torch.device) -> torch.device:
    """The device, or a `DeviceError` that says what is there."""
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"device must be 'cpu' or 'cuda[:index]', got {device!r}; use --device cpu") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"device {device!r} was asked for, but torch sees no GPU; use --device cpu")
    if chosen.type not in ("cpu", "cuda"):
        raise DeviceError(f"device must be 'cpu' or 'cuda[:index]', got {device!r}; use --device cpu")
    if chosen.type == "cuda" and chosen.index is not None and chosen.index >= torch.cuda.device_count():
        raise DeviceError(f"device {device!r} was asked for, but torch sees {torch.cuda.device_count()} GPU(s)")
    return chosen
