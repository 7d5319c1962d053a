"""Loads a scenario package: a folder with `scenario.yaml`, by name (those that ship) or by path."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import yaml

from isthmus.contracts.errors import DocumentError, NotFoundError
from isthmus.contracts.parts import sources_of
from isthmus.contracts.scenario import Scenario

MANIFEST = "scenario.yaml"


def shipped_folder() -> Path:
    """Where the packages that ship with Isthmus lie: beside the code in a wheel, at the top of the tree in a checkout."""
    inside = Path(str(resources.files("isthmus"))) / "scenarios" / "packages"
    return inside if inside.is_dir() else Path(str(resources.files("isthmus"))).parents[1] / "scenarios"


def shipped() -> list[str]:
    """Names of the packages that ship."""
    folder = shipped_folder()
    return sorted(p.parent.name for p in folder.glob(f"*/{MANIFEST}")) if folder.is_dir() else []


def find_package(name_or_path: str) -> Path:
    """The folder of a package. Raises NotFoundError naming what there is."""
    direct = Path(name_or_path)
    if (direct / MANIFEST).is_file():
        return direct
    named = shipped_folder() / name_or_path
    if direct.name == name_or_path and (named / MANIFEST).is_file():
        return named
    known = ", ".join(shipped()) or "none"
    raise NotFoundError(f"there is no scenario {name_or_path!r}", f"name one that ships ({known}) or give a folder that holds {MANIFEST}")


def load_package(folder: Path) -> Scenario:
    """Reads and checks the manifest. Raises DocumentError naming file and field."""
    path = folder / MANIFEST
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        found = msgspec.convert(raw, Scenario)
    except yaml.YAMLError as error:
        raise DocumentError(f"{path} is not YAML: {' '.join(str(error).split())}", "mend the line it names") from error
    except msgspec.ValidationError as error:
        raise DocumentError(f"{path}: {error}", "mend the field it names") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"{path} cannot be read: {error}", "check the file and its permissions") from error
    shared = sources_of(found.recipe.parts) & sources_of(found.recipe.parts_after_leaving)
    if shared:
        raise DocumentError(
            f"{path}: parts_after_leaving rest on {', '.join(sorted(shared))} as parts do, so a leaver's sums could be subtracted",
            "name parts that share nothing; see contracts/parts.py",
        )
    return found
