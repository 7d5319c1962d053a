"""The sample data that a scenario may name: whose, under which licence, and how its made-up parties' folders are laid out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from isthmus.contracts.errors import InputError
from isthmus.scenarios import sample_batteries, sample_discharge, sample_floods, sample_owners, sample_tables, sample_texts


@dataclass(frozen=True)
class SampleParty:
    """One made-up party. kind: owner or site."""

    party: str
    name: str
    kind: str


@dataclass(frozen=True)
class Sample:
    """parties: owners first, then at most one site that nobody trains on. note: source, licence and what is made up, in a sentence.
    folders: root -> party -> its folder under it."""

    parties: tuple[SampleParty, ...]
    licence: str
    note: str
    folders: Callable[[Path], dict[str, Path]]

    def of_kind(self, kind: str) -> tuple[SampleParty, ...]:
        return tuple(party for party in self.parties if party.kind == kind)


def _table(name: str) -> Sample:
    table = sample_tables.TABLES[name]
    parties = tuple(SampleParty(party, words, kind) for party, words, kind in table.parties)
    return Sample(parties, table.package.licence, table.note, lambda root: sample_tables.table_folders(table, root))


def sample(name: str) -> Sample:
    """The sample of this name. Raises InputError when there is none."""
    if name == "elpv":
        parties = tuple(SampleParty(p.party, p.name, p.kind) for p in sample_owners.PARTIES)
        return Sample(parties, sample_owners.LICENCE, sample_owners.LICENCE_NOTE, sample_owners.sample_folders)
    if name == "lahn":
        parties = tuple(SampleParty(*party) for party in sample_floods.PARTIES)
        return Sample(parties, sample_floods.LICENCE, sample_floods.NOTE, sample_floods.flood_folders)
    if name == "reviews":
        parties = tuple(SampleParty(*party) for party in sample_texts.PARTIES)
        return Sample(parties, sample_texts.LICENCE, sample_texts.NOTE, sample_texts.review_folders)
    if name == "lahn-discharge":
        parties = tuple(SampleParty(*party) for party in sample_discharge.PARTIES)
        return Sample(
            parties, sample_floods.LICENCE, sample_floods.NOTE, lambda root: sample_discharge.discharge_folders(root / "discharge")
        )
    if name == "batteries":
        parties = tuple(SampleParty(*party) for party in sample_batteries.PARTIES)
        return Sample(parties, sample_batteries.LICENCE, sample_batteries.NOTE, sample_batteries.battery_folders)
    if name in sample_tables.TABLES:
        return _table(name)
    known = ", ".join(["elpv", "lahn", "lahn-discharge", "batteries", "reviews", *sample_tables.TABLES])
    raise InputError(f"there is no sample data {name!r}", f"give one folder an owner with --data; samples are {known}")
