"""Build the sdist and the wheel, look inside, and install beside the packages `envs` and `openai-agents`.

Those two own the top-level names `envs` and `agents`; stand-ins of them are written here, so nothing is downloaded.
Run with `make wheel-check`.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"rlcore": "rlcore", "rlcore/envs": "envs", "rlcore/agents": "agents", "rlcore/experiments": "experiments"}
NEIGHBOURS = {"envs": "envs", "openai_agents": "agents"}  # distribution -> its top-level module
PROBE = """
import importlib, pkgutil, sys
import agents, envs, rlcore
assert agents.OWNER == "openai_agents" and envs.OWNER == "envs", "a neighbour was overwritten"
names = ["rlcore"] + [m.name for m in pkgutil.walk_packages(rlcore.__path__, "rlcore.")]
names = [name for name in names if ".benchmark.peers." not in name]  # those need JAX
for name in names:
    module = importlib.import_module(name)
    assert module.__file__.startswith(sys.prefix), f"{name} came from {module.__file__}"
print(len(names))
"""


def call(*command: str | Path, cwd: Path) -> str:
    """Run a command; its output is shown only when it fails."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"wheel check: {' '.join(map(str, command[:4]))} ... failed\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def build(folder: Path) -> Path:
    """The wheel, built from the sdist that is built from the tree."""
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=ROOT)
    return next(folder.glob("*.whl"))


def expected_modules() -> set[str]:
    """Paths in the wheel of every module in the tree."""
    return {
        f"{inside}/{path.relative_to(ROOT / folder).as_posix()}"
        for inside, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("*.py")
    }


def check_content(wheel: Path) -> None:
    """Every module is there, and nothing lands outside `rlcore`."""
    names = set(zipfile.ZipFile(wheel).namelist())
    if missing := expected_modules() - names:
        sys.exit(f"wheel check: missing: {', '.join(sorted(missing))}; list the package in pyproject.toml")
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    if tops != {"rlcore"} or "rlcore/py.typed" not in names:
        sys.exit(f"wheel check: expected only rlcore with py.typed at the top of the wheel, got {sorted(tops)}")


def stand_in(distribution: str, module: str, folder: Path) -> Path:
    """A wheel that holds one module with one line."""
    wheel, info = folder / f"{distribution}-1.0-py3-none-any.whl", f"{distribution}-1.0.dist-info"
    files = {
        f"{module}/__init__.py": f'OWNER = "{distribution}"\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: stand-in\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return wheel


def check_install(wheel: Path, folder: Path) -> int:
    """Install all three, import all of ours, uninstall ours: the neighbours stay as they were; returns our modules."""
    home = folder / "venv"
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder))
    pip = (sys.executable, "-m", "pip", "--python", python)
    neighbours = [stand_in(*item, folder) for item in NEIGHBOURS.items()]
    call(*pip, "install", "--no-deps", "--no-index", *neighbours, wheel, cwd=folder)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # torch and the others, after ours
    count = int(call(python, "-c", PROBE, cwd=folder))
    call(*pip, "uninstall", "--yes", "rlcore-lab", cwd=folder)
    call(python, "-c", "import agents, envs; assert agents.OWNER and envs.OWNER", cwd=folder)
    return count


def main() -> None:
    """All of it, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = build(folder)
        check_content(wheel)
        count = check_install(wheel, folder)
    print(f"wheel check: {wheel.name} holds all modules, imports {count}, and lives beside envs and openai-agents")


if __name__ == "__main__":
    main()
