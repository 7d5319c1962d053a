"""A node's state folder: its key, salt, memory, log and cache, and what the owner decided at the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from isthmus.contracts.agreement import AGREEMENT_TYPE, Agreement
from isthmus.contracts.asset import ASSET_TYPE, INSPECTION_SCHEMA, ROWS_SCHEMA, TEXTS_SCHEMA, Asset
from isthmus.contracts.errors import FolderError, InputError, StorageError
from isthmus.contracts.party import PARTY_TYPE, Party, PartyKind
from isthmus.contracts.ports import Progress
from isthmus.contracts.schema import Schema
from isthmus.contracts.targets import Target
from isthmus.kit.canonical import digest_of, parse_canonical
from isthmus.kit.filelock import held
from isthmus.kit.ids import slug
from isthmus.kit.signing import Envelope, SigningKey, payload_of, seal
from isthmus.sandbox.commitment import commitment
from isthmus.sandbox.featurecache import FeatureCache
from isthmus.sandbox.folder import AUDIT, HOLDOUT, TRAIN, DataFolder, is_text_file, read_folder
from isthmus.sandbox.nodestore import NodeStore
from isthmus.sandbox.outlog import LOG_NAME
from isthmus.sandbox.ownerdata import OwnerData, file_digests, silent
from isthmus.sandbox.ports import Tools
from isthmus.sandbox.rowfiles import rows_named
from isthmus.sandbox.statistics.records import kinds_in
from isthmus.sandbox.terms import check_agreement

KEY_NAME, STORE_NAME, LOCK_NAME, CACHE_NAME = "node.key", "node.sqlite", "node.lock", "features.sqlite"
SALT_BYTES = 32


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `init` was told. data: absolute path of the owner's folder. targets: numbers that its records have in place of labels."""

    id: str
    name: str
    kind: PartyKind
    data: str
    licence: str
    sample: bool
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True)
class NodeHome:
    """An opened state folder. folder, digests: the data as committed to by `asset`."""

    root: Path
    settings: NodeSettings
    key: SigningKey
    store: NodeStore
    party: Party
    asset: Asset
    folder: DataFolder
    digests: dict[str, str]

    @property
    def asset_digest(self) -> str:
        return digest_of(self.asset)

    @property
    def party_envelope(self) -> Envelope:
        return seal(self.key, PARTY_TYPE, self.party)

    @property
    def asset_envelope(self) -> Envelope:
        return seal(self.key, ASSET_TYPE, self.asset)

    @property
    def log_path(self) -> Path:
        return self.root / LOG_NAME

    def owner_data(self, tools: Tools, progress: Progress = silent) -> OwnerData:
        """The data with a feature cache beside it."""
        return OwnerData(self.folder, self.digests, FeatureCache(self.root / CACHE_NAME), tools, progress)

    def agreements(self) -> list[tuple[str, Agreement]]:
        """(digest, agreement) of every agreement that this node keeps, the newest first."""
        return [(digest, msgspec.convert(parse_canonical(payload_of(envelope)), Agreement)) for digest, envelope in self.store.agreements()]

    def agree(self, agreement: Agreement) -> str:
        """Signs and keeps an agreement; returns its digest. Raises AgreementError, or InputError when it is another's."""
        if agreement.owner != self.settings.id or agreement.asset != self.asset_digest:
            raise InputError(f"the agreement is not of {self.settings.id} about its present asset", "take owner and asset from this node")
        if agreement.participants.get(agreement.owner) not in (None, self.key.public_hex):
            raise InputError(f"the agreement pins another key for {agreement.owner} than this node's", "pin this node's key")
        check_agreement(agreement)
        digest = digest_of(agreement)
        self.store.put_agreement(digest, seal(self.key, AGREEMENT_TYPE, agreement), agreement.issued_at_s)
        return digest


def init_home(root: Path, settings: NodeSettings, progress: Progress = silent, schema: Schema | None = None) -> NodeHome:
    """Makes the state folder, or takes up changed data as a new asset. Every record is decoded once, so that what is wrong shows now;
    rows of tables where their schema is given.

    Raises FolderError, PictureError, StorageError; InputError when the folder belongs to another party.
    """
    slug(settings.id, "party id")
    folder = read_folder(Path(settings.data), settings.targets)
    digests = file_digests(folder, progress, schema=schema)
    store = _store(root)
    known = store.fact("settings")
    if known is not None and msgspec.json.decode(known, type=NodeSettings).id != settings.id:
        store.close()
        raise InputError(f"the state folder {root} belongs to another party", "use one state folder for each party")
    if store.fact("salt") is None:
        store.put_fact("salt", os.urandom(SALT_BYTES))
    key = SigningKey.load_or_create(root / KEY_NAME)
    asset = _asset(settings, folder, digests, store.fact("salt") or b"")
    store.put_fact("settings", msgspec.json.encode(settings))
    store.put_fact("asset", msgspec.json.encode(asset))
    return NodeHome(root, settings, key, store, _party(settings, key), asset, folder, digests)


def open_home(root: Path, progress: Progress = silent) -> NodeHome:
    """Opens a state folder and holds the data against the asset. Raises FolderError when a file or label has changed since."""
    if not (root / STORE_NAME).is_file() or not (root / KEY_NAME).is_file():
        raise InputError(f"{root} is no node's state folder", "run: isthmus node init")
    store = _store(root)
    raw_settings, raw_asset, salt = store.fact("settings"), store.fact("asset"), store.fact("salt")
    if raw_settings is None or raw_asset is None or salt is None:
        store.close()
        raise InputError(f"the state folder {root} was not finished", "run: isthmus node init")
    settings, asset = msgspec.json.decode(raw_settings, type=NodeSettings), msgspec.json.decode(raw_asset, type=Asset)
    folder = read_folder(Path(settings.data), settings.targets)
    key = SigningKey.load_or_create(root / KEY_NAME)
    digests = file_digests(folder, progress, check=False)
    if _asset(settings, folder, digests, salt) != asset:
        store.close()
        raise FolderError(f"the data in {settings.data} is not what the asset commits to", "run isthmus node init, then agree anew")
    return NodeHome(root, settings, key, store, _party(settings, key), asset, folder, digests)


def data_folder(root: Path) -> Path:
    """Where the data of a node's state folder lies. Raises InputError."""
    return Path(settings_of(root).data)


def settings_of(root: Path) -> NodeSettings:
    """What `init` was told. Raises InputError."""
    if not (root / STORE_NAME).is_file():
        raise InputError(f"{root} is no node's state folder", "run: isthmus node init")
    store = _store(root)
    raw = store.fact("settings")
    store.close()
    if raw is None:
        raise InputError(f"the state folder {root} was not finished", "run: isthmus node init")
    return msgspec.json.decode(raw, type=NodeSettings)


def node_store(root: Path) -> Path:
    """Where a node's state folder keeps what it remembers. Raises InputError when it is none."""
    if not (root / STORE_NAME).is_file():
        raise InputError(f"{root} is no node's state folder", "run: isthmus node init")
    return root / STORE_NAME


def _store(root: Path) -> NodeStore:
    return NodeStore(root / STORE_NAME)


def _party(settings: NodeSettings, key: SigningKey) -> Party:
    return Party(id=settings.id, name=settings.name, kind=settings.kind, public_key=key.public_hex, sample=settings.sample)


def _kind(folder: DataFolder) -> str:
    if any(rows_named(file.path) for file in folder.files):
        return ROWS_SCHEMA
    return TEXTS_SCHEMA if any(is_text_file(file.path) for file in folder.files) else INSPECTION_SCHEMA


def _asset(settings: NodeSettings, folder: DataFolder, digests: dict[str, str], salt: bytes) -> Asset:
    return Asset(
        owner=settings.id,
        schema=_kind(folder),
        licence=settings.licence,
        records_train=len(folder.of_split(TRAIN)),
        records_holdout=len(folder.of_split(HOLDOUT)),
        groups_train=folder.groups(TRAIN),
        groups_holdout=folder.groups(HOLDOUT),
        records_audit=len(folder.of_split(AUDIT)),
        commitment=commitment(folder, digests, salt),
        groups_inferred=folder.groups_inferred,
        kinds_holdout=tuple(sorted({kind for record in folder.of_split(HOLDOUT) for kind in kinds_in(record.kind)})),
        splits_inferred=folder.splits_inferred,
        sample=settings.sample,
    )


@contextmanager
def only_one(root: Path, make: bool = False) -> Iterator[None]:
    """Holds the state folder for one process. make: it may be new. Raises StorageError when another process has it."""
    if not make and not root.is_dir():
        raise InputError(f"{root} is no node's state folder", "run: isthmus node init")
    with held(root / LOCK_NAME) as mine:
        if not mine:
            raise StorageError(f"another process uses the state folder {root}", "stop it, or use another folder")
        yield
