"""A small inspection task made here: plates with a bright scratch are defects. Folders, a scenario package, and the real command line."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from isthmus.cli.main import main
from isthmus.kit.pictures import encode_png

SIDE_PIXELS = 64
RECORDS = 120
GROUP = 10
OWNERS = ("alder", "birch", "cedar")
PURPOSE = "plates"
OPERATIONS = ("moments/1", "foldout/2", "clusters/2", "evaluate/1", "own-head/1")
COMMAND_TIMEOUT_S = 240

SCENARIO: dict[str, Any] = {
    "id": "plate-inspection",
    "version": "0.1.0",
    "title": "Scratches on plates",
    "tier": "T2",
    "task": "image-inspection",
    "purpose": PURPOSE,
    "intended_use": "Tests.",
    "prohibited_use": "Anything else.",
    "interface": {"input": "image", "output": "verdict", "classes": ["good", "defect"]},
    "recipe": {
        "backbone": "efficientnet-lite0",
        "parts": ["defects/max", "texture/12"],
        "parts_after_leaving": ["deep/12"],
        "views": ["identity", "flip-left-right"],
        "sure_weight": 2,
        "unsure_weight": 1,
        "lambdas": [0.01, 0.1, 1.0],
        "records_per_feature": 4,
    },
    "certify": {
        "promises_ppm": [100_000, 50_000],
        "confidence_ppm": 950_000,
        "groups_min": 8,
        "answered_ppm_min": 50_000,
        "recall_ppm_min": 500_000,
        "specificity_ppm_min": 600_000,
        "auc_ppm_min": 600_000,
        "slice_records_min": 40,
        "families": ["brightness"],
        "severities": [1, 2],
        "planning_design_effect": 1.2,
        "planning_power": 0.8,
        "validity_days": 90,
    },
    "serve": {
        "currency": "EUR",
        "micros_per_inference": 2000,
        "compute_ppm": 300_000,
        "model_vendor_ppm": 150_000,
        "owners_ppm": 450_000,
        "exchange_ppm": 100_000,
        "sample_requests": 12,
    },
    "replicate": {"samples_default": 40, "weightings": [1, 4, 16]},
    "sample_data": "none",
}


def plate(rng: np.random.Generator, defect: bool) -> NDArray[np.uint8]:
    """(64, 64, 3) grey noise; a defect carries one to three bright scratches."""
    pixels = rng.normal(rng.normal(95, 8), 12, (SIDE_PIXELS, SIDE_PIXELS))
    for _ in range(int(rng.integers(1, 4)) if defect else 0):
        x, y, slope = rng.integers(8, 56), rng.integers(4, 24), rng.uniform(-0.4, 0.4)
        for step in range(36):
            column = int(np.clip(x + slope * step, 1, SIDE_PIXELS - 3))
            pixels[min(y + step, SIDE_PIXELS - 1), column : column + 2] += 110
    return np.repeat(np.clip(pixels, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def owner_folder(root: Path, seed: int, records: int = RECORDS) -> Path:
    """A folder with labels.csv: groups of ten, every third group held out, two kinds by group."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True)
    lines = ["path,label,certainty,group,kind,split"]
    for index in range(records):
        defect, group = bool(rng.random() < 0.45), index // GROUP
        (root / f"p{index:04d}.png").write_bytes(encode_png(plate(rng, defect)))
        certainty = "sure" if rng.random() < 0.9 else "unsure"
        split = "holdout" if group % 3 == 1 else "train"
        lines.append(f"p{index:04d}.png,{'defect' if defect else 'good'},{certainty},lot-{group},{'bright'[: 3 + group % 2]},{split}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def three_owners(root: Path, seed: int, records: int = RECORDS) -> list[Path]:
    """Three folders named after their owners."""
    return [owner_folder(root / name, seed + place, records) for place, name in enumerate(OWNERS)]


def scenario_folder(root: Path, **changes: Any) -> Path:
    """A scenario package. changes: top-level fields to lay over SCENARIO."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "scenario.yaml").write_text(yaml.safe_dump({**SCENARIO, **changes}), encoding="utf-8")
    return root


@dataclass(frozen=True)
class Ended:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    def refused(self, code: str | None = None) -> dict[str, str]:
        """The error object, once it was checked that the failure was told as every failure must be."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert self.code != 0, self.out
        assert "Traceback" not in self.err + self.out
        told = [line for line in lines if line.startswith("error [")]
        assert len(told) == 1, self.err
        assert lines[-1] == told[0], self.err
        error: dict[str, str] = self.document["error"]
        assert set(error) == {"code", "message", "next"}
        assert error["message"].strip() and error["next"].strip(), error
        assert "\n" not in error["message"], error
        assert code is None or error["code"] == code, error
        return error


def arguments_of(*words: object) -> list[str]:
    return [sys.executable, "-m", "isthmus", *(str(word) for word in words)]


def environment(**extra: str) -> dict[str, str]:
    """This process's, without settings of Isthmus."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ISTHMUS_")}
    return {**kept, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **extra}


def isthmus(*words: object, cwd: Path | None = None, timeout_s: float = COMMAND_TIMEOUT_S, **extra: str) -> Ended:
    """Runs one command line to its end."""
    done = subprocess.run(
        arguments_of(*words), capture_output=True, text=True, cwd=cwd, timeout=timeout_s, env=environment(**extra), check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def spoken(*words: object) -> Ended:
    """The same, in this process: quick, for what ends before anything is started."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(word) for word in words])
    return Ended(code, out.getvalue(), err.getvalue())


def run_words(scenario: Path, folders: list[Path], state: Path) -> list[object]:
    """The words of `isthmus run` on these folders."""
    data = [word for folder in folders for word in ("--data", folder)]
    return ["run", scenario, *data, "--state", state, "--report", state.parent / "report.html", "--json"]
