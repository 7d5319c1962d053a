"""Runs a box's runner.py in an interpreter that has numpy, onnxruntime and Pillow, and nothing else beside the standard library.

Call: python -I -S edge_guard.py PLACES [--no-pillow] BOX WORDS... PLACES: folders of installed packages. Every package in them is refused
as if it were not installed, except the three and what their own installation brings along.
"""

from __future__ import annotations

import os
import runpy
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

OWN = {"runner", "journal", "certificate", "pictures", "records"}
BROUGHT = {"numpy", "onnxruntime", "PIL", "google", "coloredlogs", "humanfriendly", "flatbuffers", "packaging", "sympy", "mpmath"}
"""The three, and what `pip install onnxruntime numpy pillow` installs with them."""


class Guard:
    """A finder that refuses every other package that is found among the installed ones."""

    def __init__(self, allowed: set[str], places: list[str]) -> None:
        self.allowed, self.places, self.refused = allowed, places, set[str]()

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        top = name.partition(".")[0]
        if top in self.allowed or top in OWN or top in sys.stdlib_module_names or PathFinder.find_spec(top, self.places) is None:
            return None
        self.refused.add(top)
        raise ModuleNotFoundError(f"{name} is not installed on this box", name=name)


def main() -> None:
    places, words = sys.argv[1].split(os.pathsep), sys.argv[2:]
    allowed = set(BROUGHT)
    if words[0] == "--no-pillow":
        words, allowed = words[1:], allowed - {"PIL"}
    sys.meta_path.insert(0, Guard(allowed, places))
    sys.path += places
    box = Path(words[0]).resolve()
    sys.path.insert(0, str(box))
    sys.argv = [str(box / "runner.py"), *words[1:]]
    sys.dont_write_bytecode = True
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
