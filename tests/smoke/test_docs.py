"""Every Python block of the README and of the pages in docs runs; the blocks of a page share their names."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import gymnasium
import pytest

from rlcore.reporting import acceptance

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)[^)]*\)")


@pytest.fixture
def clean_registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a page registers is gone after its test."""
    monkeypatch.setattr(acceptance, "ROWS", list(acceptance.ROWS))
    yield
    for env_id in [env_id for env_id in gymnasium.registry if env_id.startswith("my/")]:
        del gymnasium.registry[env_id]


@pytest.mark.usefixtures("clean_registries")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look their module up
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    for needed in re.findall(r"^<!-- needs (\w+) -->$", text, re.MULTILINE):
        pytest.importorskip(needed)
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], str(page), "exec"), vars(module))


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_the_tables_are_complete() -> None:
    from rlcore.envs import CATALOG
    from rlcore.reporting.listing import agents

    text = (ROOT / "README.md").read_text()
    names = [*CATALOG, *(path.rpartition(".")[2] for path in agents())]
    assert [name for name in names if f"`{name}`" not in text] == []
