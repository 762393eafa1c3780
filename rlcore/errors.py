"""What can go wrong, by kind. Every message says what was expected, what came, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class RlcoreError(Exception):
    """Base of all errors a user can cause; the command line prints its one line and exits with code 2."""


class ConfigError(RlcoreError, ValueError):
    """A setting is out of its range, or two settings contradict each other."""


class ShapeError(RlcoreError, ValueError):
    """A tensor has the wrong shape, dtype or device."""


class NumericsError(RlcoreError, ArithmeticError):
    """A computation left its domain: non-finite values, no stabilising solution, divergence."""


class CheckpointError(RlcoreError):
    """A checkpoint is missing, damaged, foreign, or of another configuration."""


class DataError(RlcoreError, ValueError):
    """A data set is missing, damaged, or does not fit."""


class MissingExtraError(RlcoreError, ImportError):
    """A package of an extra is not installed."""


class FolderError(RlcoreError, OSError):
    """A run folder is occupied, missing, or not writable."""


class DeviceError(RlcoreError, RuntimeError):
    """The device asked for is not there."""


class ProcessError(RlcoreError, RuntimeError):
    """Processes that should work together do not: one was lost, differs, or cannot be reached."""


class UnknownNameError(RlcoreError, LookupError):
    """A name that nothing is registered under."""


class DataWarning(UserWarning):
    """The data look as if an assumption of the method did not hold; the result is returned all the same."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """An `UnknownNameError` that suggests the nearest of the known names."""
    names = sorted(known)
    folded = {n.lower(): n for n in names}
    close = get_close_matches(name.lower(), folded, n=1, cutoff=0.4)
    hint = f"did you mean {folded[close[0]]!r}?" if close else f"known: {', '.join(names) or 'none'}"
    return UnknownNameError(f"no {kind} is called {name!r}; {hint}")
