"""A node's state folder: its key, salt, memory, log and cache, and what the owner decided at the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from isthmus.contracts.agreement import Agreement
from isthmus.contracts.asset import ASSET_TYPE, INSPECTION_SCHEMA, ROWS_SCHEMA, TEXTS_SCHEMA, Asset
from isthmus.contracts.errors import ConflictError, FolderError, InputError, StorageError
from isthmus.contracts.party import CREDENTIAL_TYPE, PARTY_TYPE, Credential, Party, PartyKind
from isthmus.contracts.ports import Progress
from isthmus.contracts.schema import Schema
from isthmus.contracts.targets import Target
from isthmus.kit.canonical import digest_of, parse_canonical
from isthmus.kit.filelock import held
from isthmus.kit.ids import slug
from isthmus.kit.signing import Envelope, SigningKey, payload_of, seal
from isthmus.sandbox.agreements import agreement_digest, read_terms, sealed_terms
from isthmus.sandbox.askedbook import BOOK_NAME, AskedBook
from isthmus.sandbox.columnasset import INDEX_NAME, ColumnAsset, ColumnFacts, read_columns, reopened
from isthmus.sandbox.columndata import ColumnData
from isthmus.sandbox.columnlayout import LAYOUT_NAME, ColumnLayout, column_place
from isthmus.sandbox.commitment import commitment
from isthmus.sandbox.featurecache import FeatureCache
from isthmus.sandbox.featurefile import FeatureFiles
from isthmus.sandbox.folder import AUDIT, HOLDOUT, SPLITS, TRAIN, DataFolder, is_text_file, read_folder
from isthmus.sandbox.nodestore import NodeStore
from isthmus.sandbox.nodeterms import keep_signed
from isthmus.sandbox.outlog import LOG_NAME, kept_rotations
from isthmus.sandbox.ownerdata import OwnerData, file_digests, silent
from isthmus.sandbox.ports import Tools
from isthmus.sandbox.rowfiles import rows_named
from isthmus.sandbox.statistics.records import kinds_in
from isthmus.sandbox.terms import check_agreement

KEY_NAME, STORE_NAME, LOCK_NAME, CACHE_NAME = "node.key", "node.sqlite", "node.lock", "features.sqlite"
FEATURES_NAME = "features"
Table = tuple[Path, tuple[str, ...], ColumnLayout]
NEXT_KEY_NAME = "node.key.next"
SALT_BYTES = 32
CREDENTIAL_FACT = "credential"


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `init` was told. data: absolute path of the owner's folder or table. targets: numbers that its records have in place of labels.
    layout: which columns of a table are which, beyond what its asset.yaml says."""

    id: str
    name: str
    kind: PartyKind
    data: str
    licence: str
    sample: bool
    targets: tuple[Target, ...] = ()
    layout: ColumnLayout = ColumnLayout()


@dataclass(frozen=True)
class NodeHome:
    """An opened state folder. folder, digests: the data as committed to by `asset`. columns: where they are a table in columns; the folder
    then lists no files."""

    root: Path
    settings: NodeSettings
    key: SigningKey
    store: NodeStore
    party: Party
    asset: Asset
    folder: DataFolder
    digests: dict[str, str]
    columns: ColumnAsset | None = None

    @property
    def asset_digest(self) -> str:
        return digest_of(self.asset)

    @property
    def party_envelope(self) -> Envelope:
        return seal(self.key, PARTY_TYPE, self.party)

    @property
    def asset_envelope(self) -> Envelope:
        return seal(self.key, ASSET_TYPE, self.asset)

    def keep_credential(self, envelope: Envelope) -> Credential:
        """Keeps an issuer's word for this node's key, to be registered with it from now on. Raises InputError when it is about another."""
        word = msgspec.convert(parse_canonical(payload_of(envelope)), Credential)
        if envelope.payload_type != CREDENTIAL_TYPE or (word.party, word.public_key) != (self.settings.id, self.key.public_hex):
            raise InputError(f"this is no issuer's word for {self.settings.id} and its key", f"ask for one for {self.key.public_hex}")
        self.store.put_fact(CREDENTIAL_FACT, msgspec.json.encode(envelope))
        return word

    @property
    def log_path(self) -> Path:
        return self.root / LOG_NAME

    @property
    def rotations(self) -> tuple[Envelope, ...]:
        """The words by which this owner's key came from earlier ones, in order."""
        return kept_rotations(self.log_path)

    def owner_data(self, tools: Tools, progress: Progress = silent) -> OwnerData | ColumnData:
        """The data with a feature cache beside it."""
        if self.columns is not None:
            return ColumnData(self.columns, FeatureFiles(self.root / FEATURES_NAME, self.asset.commitment), tools, progress)
        raw = self.store.fact("schema")
        columns = None if raw is None else msgspec.json.decode(raw, type=Schema)
        cache, asked = FeatureCache(self.root / CACHE_NAME), AskedBook(self.root / BOOK_NAME)
        return OwnerData(self.folder, self.digests, cache, tools, progress, columns=columns, asked=asked)

    def agreements(self) -> list[tuple[str, Agreement]]:
        """(digest, agreement) of every agreement that this node keeps, the newest first."""
        return [(digest, read_terms(envelope)) for digest, envelope in self.store.agreements()]

    def agree(self, agreement: Agreement) -> str:
        """Signs and keeps an agreement; returns its digest. Raises AgreementError, or InputError when it is another's."""
        if agreement.owner != self.settings.id or agreement.asset != self.asset_digest:
            raise InputError(f"the agreement is not of {self.settings.id} about its present asset", "take owner and asset from this node")
        if agreement.participants.get(agreement.owner) not in (None, self.key.public_hex):
            raise InputError(f"the agreement pins another key for {agreement.owner} than this node's", "pin this node's key")
        check_agreement(agreement)
        self._check_one_kind(agreement)
        digest = agreement_digest(agreement)
        keep_signed(self.store, agreement, digest, sealed_terms(self.key, agreement), int(agreement.issued_at_s))
        return digest

    def _check_one_kind(self, agreement: Agreement) -> None:
        """Answers about an owner's data are all noisy, or all exact: beside exact ones no epsilon would hold. Raises InputError."""
        for digest, known in self.agreements():
            kept = self.store.negotiations.of_agreement(digest)
            over = known.expires_at_s <= agreement.issued_at_s or (kept is not None and kept.negotiation.state == "TERMINATED")
            if not over and (known.privacy is None) != (agreement.privacy is None):
                what = "exact answers" if known.privacy is None else "noisy answers only"
                message = f"the agreement for {', '.join(known.purposes)} lets {what} leave, and beside exact ones no epsilon holds"
                raise InputError(message, "end that one first with isthmus node agree --end, or agree on the same for both")


def init_home(root: Path, settings: NodeSettings, progress: Progress = silent, schema: Schema | None = None) -> NodeHome:
    """Makes the state folder, or takes up changed data as a new asset. Every record is decoded once, so that what is wrong shows now;
    rows of tables where their schema is given.

    Raises FolderError, PictureError, StorageError; InputError when the folder belongs to another party.
    """
    slug(settings.id, "party id")
    place = column_place(Path(settings.data))
    found = _read_folder(settings, progress, schema) if place is None else _read_table(settings, place, progress, schema)
    store = _store(root)
    known = store.fact("settings")
    if known is not None and msgspec.json.decode(known, type=NodeSettings).id != settings.id:
        store.close()
        raise InputError(f"the state folder {root} belongs to another party", "use one state folder for each party")
    if store.fact("salt") is None:
        store.put_fact("salt", os.urandom(SALT_BYTES))
    key = SigningKey.load_or_create(root / KEY_NAME)
    if found.columns is not None:
        _write_whole(root / INDEX_NAME, found.index)
    store.put_fact("table", b"" if found.columns is None else msgspec.json.encode(found.columns.facts))
    asset = _asset(settings, found, store.fact("salt") or b"")
    store.put_fact("settings", msgspec.json.encode(settings))
    store.put_fact("asset", msgspec.json.encode(asset))
    if schema is not None:
        store.put_fact("schema", msgspec.json.encode(schema))
    return NodeHome(root, settings, key, store, _party(settings, key, store), asset, found.folder, found.digests, found.columns)


def open_home(root: Path, progress: Progress = silent) -> NodeHome:
    """Opens a state folder and holds the data against the asset: every record of a folder; of a table in columns, each file's size and time
    of writing, its blocks being checked as they are read. Raises FolderError when a file or label has changed since."""
    if not (root / STORE_NAME).is_file() or not (root / KEY_NAME).is_file():
        raise InputError(f"{root} is no node's state folder", "run: isthmus node init")
    store = _store(root)
    raw_settings, raw_asset, salt = store.fact("settings"), store.fact("asset"), store.fact("salt")
    if raw_settings is None or raw_asset is None or salt is None:
        store.close()
        raise InputError(f"the state folder {root} was not finished", "run: isthmus node init")
    settings, asset = msgspec.json.decode(raw_settings, type=NodeSettings), msgspec.json.decode(raw_asset, type=Asset)
    check_whole_key(root)
    key = SigningKey.load_or_create(root / KEY_NAME)
    try:
        raw_columns = store.fact("table")
        found = _reopened_table(root, settings, raw_columns) if raw_columns else _read_folder(settings, progress, None, check=False)
        if _asset(settings, found, salt) != asset:
            raise FolderError(f"the data in {settings.data} is not what the asset commits to", "run isthmus node init, then agree anew")
    except FolderError:
        store.close()
        raise
    if found.columns is not None and raw_columns != (fresh := msgspec.json.encode(found.columns.facts)):
        store.put_fact("table", fresh)
    return NodeHome(root, settings, key, store, _party(settings, key, store), asset, found.folder, found.digests, found.columns)


@dataclass(frozen=True)
class _Found:
    """An owner's data as they were read. index: packed, of a table in columns."""

    folder: DataFolder
    digests: dict[str, str]
    columns: ColumnAsset | None = None
    index: bytes = b""


def _read_folder(settings: NodeSettings, progress: Progress, schema: Schema | None, check: bool = True) -> _Found:
    folder = read_folder(Path(settings.data), settings.targets)
    return _Found(folder, file_digests(folder, progress, check=check, schema=schema))


def _read_table(settings: NodeSettings, place: Table, progress: Progress, schema: Schema | None) -> _Found:
    if settings.targets:
        what = f"{settings.data} is a table in columns, and the scenario foretells numbers"
        raise FolderError(what, "give a folder with records.csv: tables in columns have labels only, for now")
    root, names, layout = place
    columns, raw = read_columns(root, names, settings.layout.over(layout), progress, schema)
    return _table(root, columns, raw)


def _reopened_table(root: Path, settings: NodeSettings, raw: bytes) -> _Found:
    place = column_place(Path(settings.data))
    if place is None:
        raise FolderError(f"{settings.data} is no table in columns any more", "put it back, or run isthmus node init")
    try:
        index = (root / INDEX_NAME).read_bytes()
    except OSError as error:
        raise FolderError(f"{root / INDEX_NAME} cannot be read: {error.strerror}", "run isthmus node init") from error
    columns = reopened(place[0], place[1], msgspec.json.decode(raw, type=ColumnFacts), index)
    told = settings.layout.over(place[2]).settled(columns.files.names(), settings.data)
    if msgspec.structs.replace(told, files=()) != columns.layout:
        raise FolderError(
            f"{place[0] / LAYOUT_NAME} names other columns than the asset commits to", "run isthmus node init, then agree anew"
        )
    return _table(place[0], columns, index)


def _table(root: Path, columns: ColumnAsset, index: bytes) -> _Found:
    return _Found(DataFolder(root, (), columns.index.groups_inferred, columns.index.splits_inferred), {}, columns, index)


def _write_whole(path: Path, raw: bytes) -> None:
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as stream:
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}", "make room, then try again") from error


def check_whole_key(root: Path) -> None:
    """Raises ConflictError when a change of keys was cut off in the middle."""
    if (root / NEXT_KEY_NAME).exists():
        raise ConflictError(f"a change of the key in {root} was cut off", "finish it: isthmus party rotate-key")


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


def _party(settings: NodeSettings, key: SigningKey, store: NodeStore) -> Party:
    raw = store.fact(CREDENTIAL_FACT)
    words = () if raw is None else (msgspec.json.decode(raw),)
    return Party(
        id=settings.id, name=settings.name, kind=settings.kind, public_key=key.public_hex, sample=settings.sample, credentials=words
    )


def _kind(folder: DataFolder) -> str:
    if any(rows_named(file.path) for file in folder.files):
        return ROWS_SCHEMA
    return TEXTS_SCHEMA if any(is_text_file(file.path) for file in folder.files) else INSPECTION_SCHEMA


def _asset(settings: NodeSettings, found: _Found, salt: bytes) -> Asset:
    folder, columns = found.folder, found.columns
    if columns is None:
        records = {split: len(folder.of_split(split)) for split in SPLITS}
        groups = {split: folder.groups(split) for split in SPLITS}
        kinds = {record.kind for record in folder.of_split(HOLDOUT)}
        schema, root = _kind(folder), commitment(folder, found.digests, salt)
    else:
        records = {split: columns.count(split) for split in SPLITS}
        groups = {split: len(columns.index.starts[split]) for split in SPLITS}
        kinds = set(columns.kinds_of(HOLDOUT))
        schema, root = ROWS_SCHEMA, columns.commitment(salt)
    return Asset(
        owner=settings.id,
        schema=schema,
        licence=settings.licence,
        records_train=records[TRAIN],
        records_holdout=records[HOLDOUT],
        groups_train=groups[TRAIN],
        groups_holdout=groups[HOLDOUT],
        records_audit=records[AUDIT],
        commitment=root,
        groups_inferred=folder.groups_inferred,
        kinds_holdout=tuple(sorted({kind for text in kinds for kind in kinds_in(text)})),
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
