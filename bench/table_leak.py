"""How well the sums of the shipped packages of tables, series and texts tell whose records are in them; attacks from bench/membership.py.

    .venv/bin/python bench/table_leak.py [--json] [--draws 20] [--only heart-screening]

Each package's sample owners are laid out as a run does. Whole groups (a patient, an applicant, an event) of the three owners are drawn: as
many as train are in the sums, a sixth is the attacker's reference, of the same population, a sixth is asked about beside as many members.
Sights: the exchange sees the roster's total; with the largest owner in common cause it sees the total of the other two, and has that
owner's records as reference too. AUC 0.5 is a coin. A figure is the worst attack's mean over draws, so it is somewhat high.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench_command import say
from membership import Candidates, from_moments
from numpy.typing import NDArray
from solar_cells import area, bar, interval, machine

from isthmus.contracts.scenario import Scenario
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.ridge import standard
from isthmus.foundry.stages import extractor_of
from isthmus.kit.decoders import decoded_record
from isthmus.sandbox.folder import read_folder
from isthmus.sandbox.ownerdata import record_of, sent_bytes
from isthmus.sandbox.rowfiles import RowFiles
from isthmus.scenarios.package import find_package, load_package
from isthmus.scenarios.samples import sample

PACKAGES = ("heart-screening", "credit-risk", "produce-grading", "fault-warning", "flood-warning", "complaint-triage")
GOAL = 0.58
IN_SUMS, REFERENCE = 4 / 6, 5 / 6
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Owned:
    """Features (n, d), labels, weights, groups and owners (codes) of all records of the package's sample owners."""

    q: NDArray[np.int16]
    y: Ints
    w: Ints
    groups: Ints
    owners: Ints
    groups_training: int

    @property
    def largest(self) -> int:
        """The owner with most records."""
        return int(np.argmax(np.bincount(self.owners)))


def owned(scenario: Scenario, root: Path) -> Owned:
    """What the sample owners of a package hold, seen through its features."""
    schema = scenario.interface.schema
    assert schema is not None
    found = sample(scenario.sample_data)
    folders = found.folders(root)
    records, y, w, groups, owners, training = [], [], [], [], [], set()
    for code, party in enumerate(found.of_kind("owner")):
        folder = read_folder(folders[party.party])
        tables = RowFiles(folder.root)
        for file in folder.files:
            records.append(decoded_record(sent_bytes(record_of(folder.root, file, tables), file, schema), file.path, schema))
            y.append(file.label)
            w.append(scenario.recipe.sure_weight if file.sure else scenario.recipe.unsure_weight)
            groups.append(f"{code}/{file.group}")
            owners.append(code)
            if file.split == "train":
                training.add(groups[-1])
    extractor = extractor_of(scenario.recipe.backbone, scenario.recipe.parts, schema)
    q = extractor.select(extractor.rows(records))
    codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
    return Owned(q, np.array(y), np.array(w), codes, np.array(owners), len(training))


def attacked(data: Owned, seed: int, partner: bool) -> dict[str, float]:
    """AUC by attack at telling which groups are in the sums. partner: the largest owner makes common cause with the exchange."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.unique(data.groups[data.owners != data.largest]) if partner else np.unique(data.groups))
    told, known = int(IN_SUMS * len(order)), int(REFERENCE * len(order))
    members = np.isin(data.groups, order[:told])
    reference = np.isin(data.groups, order[told:known])
    if partner:
        reference |= data.owners == data.largest
    asked_groups = np.concatenate([order[: len(order) - known], order[known:]])
    asked = np.isin(data.groups, asked_groups)
    total, theirs = (moments_of(data.q[m], data.w[m], data.y[m], data.groups[m]) for m in (members, reference))
    norm = standard(total)
    who = Candidates((data.q[asked],), data.y[asked], data.w[asked], members[asked])
    found = from_moments(total, theirs, norm.mean, norm.scale, who)
    codes, places = np.unique(data.groups[asked], return_inverse=True)
    truth = np.isin(codes, order[:told])
    return {name: area(truth, np.bincount(places, score) / np.bincount(places)) for name, score in found.items()}


def sights(name: str, draws: int) -> Iterator[dict[str, Any]]:
    scenario = load_package(find_package(name))
    with tempfile.TemporaryDirectory() as root:
        data = owned(scenario, Path(root))
    for partner in (False, True):
        say(f"{name}: {'with the largest owner' if partner else 'exchange'}")
        found = [attacked(data, seed, partner) for seed in range(draws)]
        means = {attack: float(np.mean([one[attack] for one in found])) for attack in found[0]}
        worst = max(means, key=lambda attack: means[attack])
        yield {
            "package": name,
            "sight": "beyond: exchange and largest owner together" if partner else "exchange",
            "features": int(data.q.shape[1]),
            "groups_in_sums": int(IN_SUMS * len(np.unique(data.groups[data.owners != data.largest] if partner else data.groups))),
            "groups_training": data.groups_training,
            "worst_attack": worst,
            "auc": interval([one[worst] for one in found]),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--draws", type=int, default=20, help="drawings of who is in the sums")
    parser.add_argument("--only", default=";".join(PACKAGES), help="packages, parted by semicolons")
    given = parser.parse_args()
    rows = [row for name in given.only.split(";") for row in sights(name.strip(), given.draws)]
    say("")
    bars = [
        bar(f"membership, {row['package']}, {row['sight']}", row["auc"]["mean"], GOAL, "AUC", at_most=True)
        for row in rows
        if not row["sight"].startswith("beyond")
    ]
    result = {"bench": "table_leak", "machine": machine(), "figures": {"sights": rows}, "bars": bars}
    if given.json:
        print(json.dumps(result))
        return 0
    print(f"\n{'package':18} {'sight':44} {'d':>4} {'groups':>7} {'AUC':>6}  worst attack")
    for row in rows:
        counts = f"{row['features']:4} {row['groups_in_sums']:7}"
        print(f"{row['package']:18} {row['sight']:44} {counts} {row['auc']['mean']:6.3f}  {row['worst_attack']}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
