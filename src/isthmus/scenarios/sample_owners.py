"""Sample owners: real solar-cell images laid out as three makers' private folders and a line that nobody trains on.

Source: the ELPV data set (PyPI `elpv-dataset`; Buerhop-Lutz et al. 2018, Deitsch et al. 2019), 2,624 cells cut from
electroluminescence images of 44 modules, CC BY-NC-SA 4.0: for evaluation. The owners are made up; the images are not.

The cells come in module order, in runs of one type. Which module a cell belongs to is not published, so groups are
inferred: each run is cut into equal parts of about 60 cells, the usual size. Whole groups go to one owner and to one use.
The rule: the new line is the first 720 cells after the first module; of every three groups of an owner, in order, the middle one is
held out. Two other arrangements were tried before this one, and it turned out a favourable one: over random arrangements of
the modules less is proven (bench/elpv.py prints how much). Take its figures as a demonstration, those as the measurement.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from isthmus.contracts.errors import FolderError, StorageError

LICENCE = "CC BY-NC-SA 4.0"
LICENCE_NOTE = (
    "Solar-cell images: ELPV data set (Buerhop-Lutz et al. 2018), CC BY-NC-SA 4.0, for evaluation only; grouping by module is inferred."
)
CELLS = 2624
GROUP_CELLS = 60
HOLD_OUT_EVERY = 3
HELD_OUT = 1
MARKER = "LICENCE.txt"
UNSURE_LOW, UNSURE_HIGH, DEFECT_ABOVE = 0.2, 0.8, 0.5


@dataclass(frozen=True)
class SampleParty:
    """One made-up party. cells: ranges of the data set's cells, in its order. kind: owner or site."""

    party: str
    name: str
    kind: str
    cells: tuple[range, ...]


PARTIES = (
    SampleParty("maker-mono", "Mono maker", "owner", (range(900, 1614),)),
    SampleParty("maker-poly", "Poly maker", "owner", (range(1614, 2144),)),
    SampleParty("maker-mixed", "Mixed maker", "owner", (range(0, 60), range(780, 900), range(2144, 2624))),
    SampleParty("line-4", "Line 4", "site", (range(60, 780),)),
)


@dataclass(frozen=True)
class Cell:
    """One image of the data set. probability: of a defect, as labelled by experts (0, 1/3, 2/3, 1)."""

    path: Path
    probability: float
    kind: str
    group: str

    @property
    def label(self) -> str:
        return "defect" if self.probability > DEFECT_ABOVE else "good"

    @property
    def certainty(self) -> str:
        return "unsure" if UNSURE_LOW < self.probability < UNSURE_HIGH else "sure"


def dataset_root() -> Path:
    """Where the data package keeps its files. Raises FolderError when it is not installed."""
    try:
        import elpv_dataset
    except ImportError as error:
        raise FolderError("the sample images are not installed", "pip install 'isthmus[samples]', or give your own with --data") from error
    return Path(str(elpv_dataset.__file__)).parent / "data"


def cells(root: Path) -> list[Cell]:
    """All cells in the data set's order, with inferred groups. Raises FolderError when the package is not as expected."""
    try:
        lines = [line.split() for line in (root / "labels.csv").read_text(encoding="utf-8").splitlines() if line.strip()]
        found = [(root / path, float(probability), kind) for path, probability, kind in lines]
    except (OSError, ValueError) as error:
        raise FolderError(f"the sample images' labels cannot be read: {error}", "pip install --force-reinstall elpv-dataset") from error
    if len(found) != CELLS:
        raise FolderError(f"the sample package lists {len(found)} cells, not {CELLS}", "install elpv-dataset==1.0.0.post1")
    groups = inferred_groups([kind for _, _, kind in found])
    return [Cell(path, probability, kind, group) for (path, probability, kind), group in zip(found, groups, strict=True)]


def inferred_groups(kinds: list[str]) -> list[str]:
    """A group name for each cell: runs of one kind, each cut into equal parts of about GROUP_CELLS."""
    names: list[str] = []
    start = 0
    while start < len(kinds):
        end = start
        while end < len(kinds) and kinds[end] == kinds[start]:
            end += 1
        size, parts = end - start, max(1, round((end - start) / GROUP_CELLS))
        names += [f"{start:04d}-{place * parts // size:02d}" for place in range(size)]
        start = end
    return names


def splits(groups: list[str]) -> dict[str, str]:
    """group -> train or holdout, by the rule of this module."""
    order = list(dict.fromkeys(groups))
    return {group: "holdout" if place % HOLD_OUT_EVERY == HELD_OUT else "train" for place, group in enumerate(order)}


def labels_csv(chosen: list[Cell], split_of: dict[str, str]) -> str:
    """The owner's labels.csv."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["path", "label", "certainty", "group", "kind", "split"])
    for cell in chosen:
        writer.writerow([cell.path.name, cell.label, cell.certainty, cell.group, cell.kind, split_of[cell.group]])
    return out.getvalue()


def write_folder(target: Path, chosen: list[Cell], labels: str) -> None:
    """Puts labels, images and licence note into a folder that is there in full or not at all; one that fits is left as it is.

    Raises StorageError.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if (target / "labels.csv").exists() and (target / "labels.csv").read_text(encoding="utf-8") == labels:
            return
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for cell in chosen:
            shutil.copyfile(cell.path, part / cell.path.name)
        (part / MARKER).write_text(LICENCE_NOTE + "\n", encoding="utf-8")
        (part / "labels.csv").write_text(labels, encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise StorageError(f"the sample folder {target} cannot be written: {error.strerror}", "check the folder and the disk") from error


def sample_folders(root: Path) -> dict[str, Path]:
    """party -> its folder under root, made of the installed data set. The line's records all say `audit`; see `replicate`."""
    everything = cells(dataset_root())
    folders = {}
    for party in PARTIES:
        chosen = [everything[index] for part in party.cells for index in part]
        groups = [cell.group for cell in chosen]
        split_of = dict.fromkeys(groups, "audit") if party.kind == "site" else splits(groups)
        folders[party.party] = root / party.party
        write_folder(folders[party.party], chosen, labels_csv(chosen, split_of))
    return folders
