"""Peers' own environments: made at first use from PyPI, under the cache, never among our extras."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from bench_command import say


def environment_python(name: str, requirements: tuple[str, ...], cache: Path) -> Path:
    """The interpreter of the environment `name` with these pinned packages. cache: the folder of packages; environments lie beside it.

    Raises SystemExit when it cannot be installed: a figure of a peer is measured here or not at all.
    """
    home = cache.parent / "environments" / name
    python = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    ready = home / "ready"
    wanted = "\n".join(requirements)
    if not ready.exists() or (ready.read_text(encoding="utf-8") or wanted) != wanted:
        say(f"installing {' '.join(requirements)}")
        venv.create(home, with_pip=True, clear=True)
        ran = subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], capture_output=True, text=True, check=False)
        if ran.returncode:
            raise SystemExit(f"{' '.join(requirements)} could not be installed, so nothing is measured: {ran.stderr.strip()[-300:]}")
        ready.write_text(wanted, encoding="utf-8")
    return python
