"""One person labels one folder: which picture is asked next, what an answer taught, and how far the model is.

Questions come in two kinds. Most are *chosen* by the model (`foundry.labelling`); every DRAWN_EVERY-th, and the first START, are *drawn*
at random. The curve is measured on what was not chosen (drawn, or labelled before), each scored by the fit that did not see its group:
pictures that the model chose are the hard ones, so they would say too little. It is a measurement on training records, no promise; that
needs held-out records, and held-out groups are neither asked nor looked at here.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isthmus.assurance.bounds import GROUPS_MIN, clopper_pearson_lower, design_effect, korn_graubard_lower
from isthmus.contracts.errors import ConflictError, FolderError, NotFoundError, PictureError
from isthmus.contracts.labelling import Asked, CurvePoint, DeskState, Said, Took
from isthmus.contracts.ports import Clock, Extractor, Progress
from isthmus.contracts.sums import GroupSums
from isthmus.foundry.labelling import SURE_WEIGHT, UNSURE_WEIGHT, Given, LabelModel
from isthmus.kit.pictures import DECODER, FILE_BYTES_MAX, decode, encode_png
from isthmus.sandbox.featurecache import FeatureCache
from isthmus.sandbox.folder import TRAIN
from isthmus.sandbox.labelbook import HIDDEN, Answer, How, LabelBook, Unlabelled

RULE = "change"
START = 8
DRAWN_EVERY = 4
CONFIDENCE = 0.95
PICTURES_MAX_DEFAULT = 2000
RECENT_MAX = 24
MEASURED_MIN = 5
REPLAYED_MAX = 60
VIEW_PIXELS_MAX = 1600
BATCH_PIXELS_MAX = 12_000_000
BATCH_IMAGES = 16
CACHE_NAME = "features.sqlite"
VERDICTS = {"good": -1, "defect": 1}


@dataclass(frozen=True)
class Picture:
    """One picture that teaches or may be asked. id: of the page, from the path."""

    path: str
    group: str
    id: str


@dataclass(frozen=True)
class Pile:
    """Pictures with their features, (n, d) int16, in the same order. unread: file and reason. left_out: how many a limit left out;
    kept_back: how many are of held-out groups."""

    pictures: tuple[Picture, ...]
    features: NDArray[np.int16]
    unread: tuple[str, ...]
    left_out: int
    kept_back: int


def drawn_order(path: str) -> bytes:
    """Sort key of the random order: the same on every machine, and in no relation to names."""
    return hashlib.sha256(f"label\n{path}".encode()).digest()


def picture_id(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:20]


def gather_pile(book: LabelBook, extractor: Extractor, progress: Progress, open_max: int = PICTURES_MAX_DEFAULT) -> Pile:
    """Reads the training pictures and up to open_max unlabelled ones, drawn at random; features come from the folder's cache if there.

    Raises FolderError when there is nothing to label.
    """
    shelf = book.shelf()
    taught = [Unlabelled(file.path, file.group) for file in shelf.labelled.files if file.split == TRAIN]
    free = sorted(shelf.open, key=lambda one: drawn_order(one.path))
    if not free and not book.answers():
        back = f"; {shelf.kept_back} are of groups that are held out" if shelf.kept_back else ""
        raise FolderError(
            f"{book.root} holds no pictures without a label that may be asked{back}",
            "put pictures into its sub-folder unlabelled, or leave them out of labels.csv",
        )
    cache = FeatureCache(book.root / HIDDEN / CACHE_NAME)
    try:
        wanted = [*taught, *free[:open_max]]
        found, unread = _features(book.root, wanted, extractor, cache, progress)
    finally:
        cache.close()
    kept = [one for one in wanted if one.path in found]
    if not kept:
        raise FolderError(f"none of the {len(wanted)} pictures in {book.root} can be read, for example {unread[0]}", "replace the files")
    pictures = tuple(Picture(one.path, one.group, picture_id(one.path)) for one in kept)
    return Pile(pictures, np.stack([found[one.path] for one in kept]), tuple(unread), max(0, len(free) - open_max), shelf.kept_back)


def _features(
    root: Path, wanted: list[Unlabelled], extractor: Extractor, cache: FeatureCache, progress: Progress
) -> tuple[dict[str, NDArray[np.int16]], list[str]]:
    """(path -> features, sentences about files that cannot be read)."""
    condition = f"{DECODER}/label"
    kept, found, unread = cache.found(extractor.digest, condition), {}, []
    waiting: list[tuple[str, str, NDArray[np.uint8]]] = []

    def work() -> None:
        rows = extractor.quantised([pixels for _, _, pixels in waiting])
        cache.keep(extractor.digest, condition, {digest: row for (_, digest, _), row in zip(waiting, rows, strict=True)})
        found.update({path: row for (path, _, _), row in zip(waiting, rows, strict=True)})
        waiting.clear()

    for done, one in enumerate(wanted, start=1):
        try:
            raw = picture_bytes(root / one.path)
            digest = hashlib.sha256(raw).hexdigest()
            if digest in kept:
                found[one.path] = kept[digest]
            else:
                waiting.append((one.path, digest, decode(raw, one.path)))
        except PictureError as error:
            unread.append(f"{one.path}: {error.message}")
        if len(waiting) >= BATCH_IMAGES or sum(p.shape[0] * p.shape[1] for _, _, p in waiting) >= BATCH_PIXELS_MAX:
            work()
        progress(done, len(wanted), "looking at pictures")
    if waiting:
        work()
    return found, unread


def picture_bytes(path: Path) -> bytes:
    """A picture file's bytes. Raises PictureError when it is too large or cannot be read."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise PictureError(f"more than the {FILE_BYTES_MAX} bytes allowed", "scale it down")
        return path.read_bytes()
    except OSError as error:
        raise PictureError(f"cannot be opened: {error.strerror}", "put the file back") from error


class Desk:
    """The state behind the page; safe to use from several threads.

    Every method returns the state after it. Raises NotFoundError for an unknown picture, ConflictError when it is not to be answered, and
    what the book raises; then nothing has changed.
    """

    def __init__(self, book: LabelBook, pile: Pile, clock: Clock) -> None:
        self._book, self._pile, self._clock = book, pile, clock
        self._lock = threading.Lock()
        self._rows = {picture.path: row for row, picture in enumerate(pile.pictures)}
        self._ids = {picture.id: row for row, picture in enumerate(pile.pictures)}
        self._codes = np.unique([picture.group for picture in pile.pictures], return_inverse=True)[1].reshape(-1)
        self._grouped = len(np.unique(self._codes)) >= GROUPS_MIN
        if not self._grouped:
            self._codes = np.arange(len(self._codes))
        self._order = sorted(range(len(pile.pictures)), key=lambda row: drawn_order(pile.pictures[row].path))
        self._took = Took()
        self._load()

    # What the page asks.

    def state(self) -> DeskState:
        with self._lock:
            self._follow_others()
            return self._state()

    def picture(self, identity: str) -> bytes:
        """The picture as PNG, upright, as the one named decoder sees it; its longer side at most VIEW_PIXELS_MAX."""
        picture = self._pile.pictures[self._row(identity)]
        image = Image.fromarray(decode(picture_bytes(self._book.root / picture.path), picture.path))
        image.thumbnail((VIEW_PIXELS_MAX, VIEW_PIXELS_MAX))
        return encode_png(np.asarray(image))

    def answer(self, identity: str, verdict: str, sure: bool) -> DeskState:
        """verdict: `good`, `defect`, or `later` to put the picture off."""
        with self._lock:
            self._follow_others()
            row = self._row(identity)
            label, again = VERDICTS.get(verdict, 0), row in self._model.given
            if verdict not in (*VERDICTS, "later") or (again and not label):
                raise ConflictError(f"{verdict!r} is no answer to this picture", "answer good or defect, or undo")
            if not again and row != self._next:
                raise ConflictError("this picture is not asked now", "load the page again")
            guess = self._guess(row)
            began_s = self._clock.monotonic_s()
            how: How = "changed" if again else self._next_how
            given = self._book.write(self._pile.pictures[row].path, label, sure, how, self._pile.pictures[row].group)
            written_s = self._clock.monotonic_s()
            self._learn(row, given, guess)
            self._took = Took(write_ms=_ms(written_s - began_s), learn_ms=_ms(self._clock.monotonic_s() - written_s))
            return self._state()

    def undo(self) -> DeskState:
        """Takes the last answer back and asks that picture again."""
        with self._lock:
            self._follow_others()
            began_s = self._clock.monotonic_s()
            taken = self._book.take_back()
            if taken is None:
                raise ConflictError("there is no answer to take back", "labels that were there before stay; change them in labels.csv")
            written_s = self._clock.monotonic_s()
            self._forget(taken)
            self._took = Took(write_ms=_ms(written_s - began_s), learn_ms=_ms(self._clock.monotonic_s() - written_s))
            return self._state()

    # Within.

    def _row(self, identity: str) -> int:
        if identity not in self._ids:
            raise NotFoundError("there is no such picture on this desk", "load the page again")
        return self._ids[identity]

    def _follow_others(self) -> None:
        if self._book.changed_by_others():
            self._load()

    def _load(self, first: str | None = None) -> None:
        """Everything anew from labels.csv and the journal; of a long history the curve has REPLAYED_MAX points. first: a path to ask next,
        if it is open."""
        shelf = self._book.shelf()
        answers = [answer for answer in self._book.answers() if answer.path in self._rows]
        labels = {f.path: _given(f.label, f.sure) for f in shelf.labelled.files if f.split == TRAIN and f.path in self._rows}
        closed = {file.path for file in shelf.labelled.files}
        self._open = np.array([p.path not in closed for p in self._pile.pictures], dtype=bool)
        self._hows: dict[str, How] = {}
        for answer in answers:
            if answer.how != "changed" and answer.label:
                self._hows[answer.path] = answer.how
        self._model = LabelModel(self._pile.features)
        self._said: list[Said] = []
        self._later: list[int] = []
        self._curve: list[CurvePoint] = []
        before = [path for path in labels if path not in self._hows]
        self._model.learn([self._rows[path] for path in before], [labels[path] for path in before])
        self._measure()
        step = 1 + len(answers) // REPLAYED_MAX
        for place, answer in enumerate(answers, start=1):
            row = self._rows[answer.path]
            guess = self._guess(row)
            if answer.label and answer.path in labels:
                self._model.add(row, _given(answer.label, answer.sure))
            self._count(answer, guess)
            if answer.label and (place % step == 0 or place == len(answers)):
                self._measure()
        for path, label in labels.items():  # labels.csv is what counts
            if self._model.given.get(self._rows[path]) != label:
                self._model.add(self._rows[path], label)
        self._choose(first)

    def _forget(self, taken: Answer) -> None:
        """Takes back what the last answer taught; the plain case without going through all answers again."""
        row = self._rows.get(taken.path)
        last = self._said[-1] if self._said else None
        plain = taken.label and taken.how != "changed" and taken.before is None and last is not None and last.name == taken.path
        if row is None or not plain or row not in self._model.given:
            self._load(first=taken.path)
            return
        self._model.remove(row)
        self._said.pop()
        self._hows.pop(taken.path, None)
        self._open[row] = True
        while self._curve and self._curve[-1].labels > len(self._model.given):
            self._curve.pop()
        self._choose(taken.path)

    def _guess(self, row: int) -> float | None:
        """What chance the model gives a defect; None while it knows one class only."""
        if len({label.y for label in self._model.given.values()}) < 2:
            return None
        score = float(self._model.z[row] @ self._model.solution.coefficients)
        return round(min(1.0, max(0.0, (1.0 + score) / 2.0)), 3)

    def _learn(self, row: int, given: Answer, guess: float | None) -> None:
        if given.label:
            self._model.add(row, _given(given.label, given.sure))
        self._count(given, guess)
        if given.label:
            self._measure()
        self._choose()

    def _count(self, answer: Answer, guess: float | None) -> None:
        """Notes what was said. guess: what the model thought before."""
        row = self._rows[answer.path]
        if not answer.label:
            self._later = [*(r for r in self._later if r != row), row]
            return
        if answer.how != "changed":
            self._hows[answer.path] = answer.how
        self._open[row] = False
        self._said = [*(said for said in self._said if said.id != self._pile.pictures[row].id), self._as_said(answer, guess)]

    def _as_said(self, answer: Answer, guess: float | None) -> Said:
        verdict = "good" if answer.label < 0 else "defect"
        row = self._rows[answer.path]
        return Said(
            id=self._pile.pictures[row].id,
            name=answer.path,
            verdict=verdict,
            sure=answer.sure,
            how=self._hows.get(answer.path, answer.how),
            defect_chance=guess,
        )

    def _choose(self, first: str | None = None) -> None:
        """Sets the picture that is asked next, and why."""
        free = self._open.copy()
        free[self._later] = False
        if not bool(free.any()):  # only what was put off is left
            free = self._open.copy()
        asked = sum(how != "changed" for how in self._hows.values())
        both = len({label.y for label in self._model.given.values()}) == 2
        if first is not None and self._open[self._rows[first]]:
            self._next, self._next_how = self._rows[first], self._first_how(first)
            return
        if not bool(free.any()):
            self._next, self._next_how = -1, "drawn"
            return
        drawn = next(row for row in self._order if free[row])
        chosen = self._model.best(free, RULE) if both and len(self._model.given) >= START and asked % DRAWN_EVERY else None
        self._next, self._next_how = (drawn, "drawn") if chosen is None else (chosen, "chosen")

    def _first_how(self, path: str) -> How:
        """A picture that was ever chosen stays a chosen one."""
        return "chosen" if any(a.path == path and a.how == "chosen" for a in self._book.everything()) else "drawn"

    def _measure(self) -> None:
        """One point of the curve: accuracy on labels that were not chosen, by fits that did not see their group."""
        counted = [r for r in self._model.given if self._hows.get(self._pile.pictures[r].path) != "chosen"]
        if len(counted) < MEASURED_MIN or len({label.y for label in self._model.given.values()}) < 2:
            return
        rows, scores = self._model.fold_out(self._codes)
        mine = np.isin(rows, counted)
        truth = np.array([self._model.given[int(row)].y for row in rows])[mine]
        wrong = ((scores[mine] > 0) != (truth > 0)).astype(np.int64)
        commoner = float(max((truth > 0).mean(), (truth < 0).mean()))
        self._curve.append(_point(len(self._model.given), wrong, self._codes[rows[mine]], self._grouped, commoner))

    def _state(self) -> DeskState:
        pictures, given = self._pile.pictures, self._model.given
        asked = None
        if self._next >= 0:
            now = pictures[self._next]
            asked = Asked(id=now.id, name=now.path, how=self._next_how, put_off=self._next in self._later)
        return DeskState(
            folder=self._book.root.name,
            asked=asked,
            labelled=len(given),
            good=sum(label.y < 0 for label in given.values()),
            defect=sum(label.y > 0 for label in given.values()),
            unsure=sum(label.w == UNSURE_WEIGHT for label in given.values()),
            answered_here=len(self._said),
            drawn=sum(how == "drawn" for how in self._hows.values()),
            left=int(self._open.sum()),
            put_off=int(self._open[self._later].sum()) if self._later else 0,
            unread=len(self._pile.unread),
            left_out=self._pile.left_out,
            kept_back=self._pile.kept_back,
            recent=tuple(self._said[-RECENT_MAX:]),
            curve=tuple(self._curve),
            grouped=self._grouped,
            took=self._took,
        )


def _given(label: int, sure: bool) -> Given:
    return Given(float(label), SURE_WEIGHT if sure else UNSURE_WEIGHT)


def _ms(seconds: float) -> float:
    return round(seconds * 1000.0, 2)


def _point(labels: int, wrong: NDArray[np.int64], groups: NDArray[np.int64], grouped: bool, commoner: float) -> CurvePoint:
    """wrong: 1 where the model erred. grouped: records of one group are alike, so the bound allows for that."""
    n, errors = len(wrong), int(wrong.sum())
    lower = clopper_pearson_lower(n - errors, n, CONFIDENCE)
    if grouped:
        codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
        a, e = np.bincount(codes).astype(np.int64), np.bincount(codes, weights=wrong).astype(np.int64)
        sums = GroupSums(len(a), n, errors, int(a @ a), int(e @ e), int(a @ e))
        lower = korn_graubard_lower(n - errors, n, design_effect(sums), len(a), CONFIDENCE)
    return CurvePoint(labels=labels, measured=n, accuracy=round(1.0 - errors / n, 4), lower=round(lower, 4), commoner=round(commoner, 4))
