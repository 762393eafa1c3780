"""What every verb shares: its parser, and where its JSON goes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from rlcore.errors import ConfigError, FolderError, unknown_name


class Parser(argparse.ArgumentParser):
    """An argparse parser whose complaints are `ConfigError`s and whose unknown options come with a suggestion."""

    def __init__(self, verb: str, words: str, description: str) -> None:
        usage = f"rlcore {verb} {words}".strip()
        super().__init__(f"rlcore {verb}", usage, description, allow_abbrev=False, add_help=verb != "run")

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see `{self.prog} --help`")

    def options(self) -> list[str]:
        return [name for action in self._actions for name in action.option_strings if name.startswith("--")]

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse all of `argv`."""
        known, rest = self.parse_known_args(argv)
        if rest:
            raise unknown_name(f"option of `{self.prog}`", rest[0].partition("=")[0], self.options())
        return known


def check_output(*paths: Path | None) -> None:
    """Refuse, before any work is done, a file that could not be written after it."""
    for path in paths:
        if path is not None and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
            raise FolderError(f"cannot write {path}: its folder is missing or not writable, or it is a folder itself")


def write_output(path: Path | None, value: Any) -> None:
    """Write `value` as JSON, if a file was asked for."""
    if path is not None:
        from rlcore.training.files import plain, write_json

        write_json(path, plain(value))
