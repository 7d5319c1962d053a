"""What a person says of pictures, kept in the folder's own `labels.csv`, line by line, so that a killed process loses nothing.

An answer is written to a journal (`.isthmus/answers.jsonl`) and then into `labels.csv`, each synced to the disk before it is acknowledged;
the CSV is replaced whole or not at all. `labels.csv` is what counts: an answer that never reached it was never given. The journal remembers
what the CSV has no column for: which pictures the model chose. Those are no random sample, so they may teach and never prove.

Others may edit the CSV meanwhile: it is read anew before every answer, and their lines stay as they are.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from isthmus.contracts.errors import ConflictError, FolderError, StorageError
from isthmus.contracts.ports import Clock
from isthmus.kit.filelock import held
from isthmus.kit.pictures import SUFFIXES
from isthmus.sandbox.folder import COLUMNS, GROUP_RUN, LABELS_NAME, RECORDS_MAX, TRAIN, DataFolder, is_unlabelled, name_order, read_labels

HIDDEN = ".isthmus"
JOURNAL_NAME, LOCK_NAME = "answers.jsonl", "label.lock"
WORDS = {-1: "good", 1: "defect"}
RETRIES = 5
How = Literal["chosen", "drawn", "changed"]


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the journal. label: -1 good, 1 defect, 0 put off. how: the model chose the picture, it was drawn at random, or an earlier
    answer was changed. before: label and sureness that it replaced. undone: takes the last answer about this path back."""

    path: str
    label: int
    at_ms: int
    sure: bool = True
    how: How = "chosen"
    before: tuple[int, bool] | None = None
    undone: bool = False


@dataclass(frozen=True)
class Unlabelled:
    """A picture without a label. group: by its folder, or by its place in the order of names."""

    path: str
    group: str


@dataclass(frozen=True)
class Shelf:
    """What lies in the folder now. labelled: all splits. open: without a label, of groups that are not held out; kept_back: how many are
    of groups that are."""

    labelled: DataFolder
    open: tuple[Unlabelled, ...]
    kept_back: int


def journal_path(root: Path) -> Path:
    return root / HIDDEN / JOURNAL_NAME


def read_journal(root: Path) -> list[Answer]:
    """All lines, the oldest first; a last line that was cut short does not count. Raises FolderError when another line is damaged."""
    path = journal_path(root)
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise FolderError(f"{path} cannot be read: {error.strerror}", "check its permissions") from error
    found = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            found.append(msgspec.json.decode(line, type=Answer))
        except msgspec.DecodeError as error:
            raise FolderError(
                f"{path} line {number} is damaged: {error}", "remove the line; the labels themselves stand elsewhere"
            ) from error
    return found


def chosen_paths(root: Path) -> frozenset[str]:
    """Pictures that a model ever chose to be labelled: they may never be held out."""
    return frozenset(answer.path for answer in read_journal(root) if answer.how == "chosen" and answer.label)


@contextmanager
def open_book(root: Path, clock: Clock) -> Iterator[LabelBook]:
    """The folder's book, for one process. Raises FolderError, or StorageError when another process labels there."""
    read_labels(root)
    with held(root / HIDDEN / LOCK_NAME) as mine:
        if not mine:
            raise StorageError(f"another process is labelling in {root}", "use its page, or stop it")
        yield LabelBook(root, clock)


class LabelBook:
    """Reads and writes the labels of one folder. Not thread-safe. Use `open_book`."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self.root, self._clock = root, clock
        self._cut_torn_line()
        self._drop_void()
        self._seen: bytes | None = None
        self._header: list[str] = list(COLUMNS)

    # Reading.

    def shelf(self) -> Shelf:
        """The folder as it is now. Raises FolderError."""
        self._seen = self._raw()
        labelled = read_labels(self.root)
        known = {file.path for file in labelled.files}
        away = {file.group for file in labelled.files if file.split != TRAIN}
        found = sorted(self._pictures(), key=lambda path: (name_order(path), path))
        loose = {path: place for place, path in enumerate(path for path in found if not _parents(path))}
        free = [Unlabelled(path, _group(path, loose.get(path, 0))) for path in found if path not in known]
        asked = tuple(one for one in free if one.group not in away)
        return Shelf(labelled, asked, len(free) - len(asked))

    def changed_by_others(self) -> bool:
        """Whether labels.csv is no longer what was last read or written here."""
        return self._raw() != self._seen

    def everything(self) -> list[Answer]:
        """All lines of the journal, also of answers that were taken back."""
        return read_journal(self.root)

    def answers(self) -> list[Answer]:
        """Answers that stand, the oldest first: not taken back, and still what labels.csv says. Put off ones are among them, and those that
        a later answer about the same picture changed."""
        stack, stands = self._stack()
        last = {entry.path: entry for entry in stack}
        return [entry for entry in stack if stands(last[entry.path])]

    def _stack(self) -> tuple[list[Answer], Callable[[Answer], bool]]:
        """(answers that were not taken back, whether labels.csv says what one says)."""
        stack: list[Answer] = []
        for entry in read_journal(self.root):
            if entry.undone:
                place = next((i for i in range(len(stack) - 1, -1, -1) if stack[i].path == entry.path), None)
                if place is not None:
                    del stack[place]
            else:
                stack.append(entry)
        said = {file.path: (file.label, file.sure) for file in read_labels(self.root).files}
        return stack, lambda e: said.get(e.path) == (e.label, e.sure) if e.label else e.path not in said

    def _drop_void(self) -> None:
        """Notes of answers that never reached labels.csv, or were changed there by hand, that they do not stand."""
        stack, stands = self._stack()
        for path in {entry.path for entry in stack}:
            own = [entry for entry in stack if entry.path == path]
            while own and not stands(own[-1]):
                self._journal(self._undoing(own.pop()))

    def _undoing(self, answer: Answer) -> Answer:
        return Answer(path=answer.path, label=answer.label, at_ms=int(self._clock.now_s() * 1000), undone=True)

    def _pictures(self) -> list[str]:
        """Relative paths of all pictures that may be labelled: all where there is a labels.csv, else the ones without a class."""
        listed = (self.root / LABELS_NAME).exists()
        found: list[str] = []
        try:
            for top in sorted(self.root.iterdir()):
                if top.name.startswith("."):
                    continue
                inside = [top] if top.is_file() else top.rglob("*") if listed or is_unlabelled(top.name) else []
                found += [p.relative_to(self.root).as_posix() for p in inside if p.suffix.lower() in SUFFIXES and _plain(p, self.root)]
        except OSError as error:
            raise FolderError(f"the folder {self.root} cannot be read: {error.strerror}", "check its permissions") from error
        if len(found) > RECORDS_MAX:
            raise FolderError(f"{self.root} holds more than {RECORDS_MAX} pictures", "split the folder")
        return found

    def _raw(self) -> bytes | None:
        try:
            return (self.root / LABELS_NAME).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FolderError(f"{self.root / LABELS_NAME} cannot be read: {error.strerror}", "check its permissions") from error

    # Writing.

    def write(self, path: str, label: int, sure: bool, how: How, group: str) -> Answer:
        """One answer; durable when this returns. label: -1, 1, or 0 to put the picture off. Raises FolderError, StorageError."""
        before = None
        if label:
            names, *rows = self._lines(self._raw())
            standing = next((row for row in rows if _clean(row[names.index("path")]) == path), None)
            if standing is not None and standing[names.index("split")].strip() != TRAIN:
                raise ConflictError(f"{path} is held out, so its label is not changed here", "edit labels.csv by hand if it is wrong")
            before = _said(names, standing) if standing else None
        answer = Answer(path=path, label=label, at_ms=int(self._clock.now_s() * 1000), sure=sure, how=how, before=before)
        self._journal(answer)  # first, so that what the model chose is known of every line that reaches labels.csv
        if label:
            self._replace(path, (label, sure), group)
        return answer

    def take_back(self) -> Answer | None:
        """Undoes the last answer that stands, also one of an earlier session; returns it. None when there is none."""
        standing = self.answers()
        if not standing:
            return None
        last = standing[-1]
        if last.label:
            self._replace(last.path, last.before, "")
        self._journal(self._undoing(last))
        return last

    def _cut_torn_line(self) -> None:
        """Removes a last journal line that a kill cut short, so that the next one starts a line of its own."""
        path = journal_path(self.root)
        if path.exists() and not (raw := path.read_bytes()).endswith(b"\n"):
            write_whole(path, raw[: raw.rfind(b"\n") + 1])

    def _journal(self, answer: Answer) -> None:
        path = journal_path(self.root)
        try:
            path.parent.mkdir(exist_ok=True)
            with path.open("ab") as file:
                file.write(msgspec.json.encode(answer) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror}", "check the folder's permissions and the disk") from error

    def _replace(self, path: str, said: tuple[int, bool] | None, group: str) -> None:
        """Sets the line of one picture, or removes it; all other lines keep their fields. Tried again when somebody saves meanwhile."""
        target = self.root / LABELS_NAME
        for _ in range(RETRIES):
            raw = self._raw()
            names, *rows = self._lines(raw)
            header = names if raw is None else self._header
            new = _table(raw, [header, *_with_line(names, rows, path, said, group)])
            if self._raw() == raw:
                write_whole(target, new)
                self._seen = new
                return
        raise ConflictError(f"{target} is being written by somebody else", "close it there, then answer again")

    def _lines(self, raw: bytes | None) -> list[list[str]]:
        """Names of columns, then rows, with all columns that an answer needs; what was inferred until now is written down.

        Raises FolderError when the table is not one that `read_labels` takes.
        """
        if raw is None:
            files = read_labels(self.root).files
            return [list(COLUMNS), *([f.path, WORDS[f.label], "sure" if f.sure else "unsure", f.group, f.kind, f.split] for f in files)]
        try:
            header, *rows = [row for row in csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True) if row]
            names = [name.strip().lower() for name in header]
            if not {"path", "label"} <= set(names) or any(len(row) > len(names) for row in rows):
                raise ValueError("a row or the header is not as it should be")
        except (csv.Error, ValueError):
            read_labels(self.root)  # says what is wrong, and where
            raise ConflictError(f"{self.root / LABELS_NAME} changed while it was read", "answer again") from None
        missing = [name for name in ("certainty", "group", "split") if name not in names]
        known = {file.path: file for file in read_labels(self.root).files} if missing else {}
        for row in rows:
            row += [""] * (len(names) - len(row))
            for name in missing:
                file = known[_clean(row[names.index("path")])]
                row.append({"certainty": "sure", "group": file.group, "split": file.split}[name])
        self._header = [*header, *missing]
        return [[*names, *missing], *rows]


def _said(names: list[str], row: list[str]) -> tuple[int, bool]:
    """(label, sureness) of a row."""
    return (-1 if row[names.index("label")].strip().lower() == WORDS[-1] else 1, row[names.index("certainty")].strip() != "unsure")


def _plain(path: Path, root: Path) -> bool:
    """A file, and in no hidden folder."""
    return not any(part.startswith(".") for part in path.relative_to(root).parts) and path.is_file()


def _parents(path: str) -> tuple[str, ...]:
    return tuple(part for part in PurePosixPath(path).parts[:-1] if not is_unlabelled(part))


def _group(path: str, place: int) -> str:
    """The folder below `unlabelled`; for pictures in none, a run of GROUP_RUN of them in the order of names."""
    return "/".join(_parents(path)) or f"more-{place // GROUP_RUN:05d}"


def _clean(path: str) -> str:
    """As `read_labels` writes it; most paths are so already."""
    path = path.strip().replace("\\", "/")
    return PurePosixPath(path).as_posix() if "//" in path or "./" in path else path


def _with_line(names: list[str], rows: list[list[str]], path: str, said: tuple[int, bool] | None, group: str) -> list[list[str]]:
    """The rows with this picture's set, or without it when `said` is None."""
    place = next((i for i, row in enumerate(rows) if _clean(row[names.index("path")]) == path), None)
    if said is None:
        return [row for i, row in enumerate(rows) if i != place]
    words = {"label": WORDS[said[0]], "certainty": "sure" if said[1] else "unsure"}
    if place is None:
        words |= {"path": path, "group": group, "split": TRAIN}
        return [*rows, [words.get(name, "") for name in names]]
    changed = [words.get(name, value) for name, value in zip(names, rows[place], strict=True)]
    return [*rows[:place], changed, *rows[place + 1 :]]


def _table(raw: bytes | None, lines: list[list[str]]) -> bytes:
    """CSV with the byte order mark and line ends that were there."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n" if raw and b"\r\n" in raw else "\n").writerows(lines)
    return (b"\xef\xbb\xbf" if raw and raw.startswith(b"\xef\xbb\xbf") else b"") + out.getvalue().encode("utf-8")


def write_whole(target: Path, raw: bytes) -> None:
    """The bytes in place of the file, on the disk, or the file as it was."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
        with part.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(mode)
        part.replace(target)
        if os.name == "posix":
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StorageError(f"{target} cannot be written: {error.strerror}", "check the folder's permissions and the disk") from error
