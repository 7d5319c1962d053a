"""The desk: which picture is asked, what the curve is measured on, undo, other hands in labels.csv, and draws that come after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from isthmus.contracts.errors import ConflictError, FolderError, NotFoundError
from isthmus.kit.clock import SystemClock
from isthmus.kit.pictures import decode
from isthmus.sandbox.folder import read_labels
from isthmus.sandbox.labelbook import LabelBook, chosen_paths, open_book
from isthmus.scenarios.draw import draw, samples_behind, site_folder
from isthmus.scenarios.labelling import DRAWN_EVERY, MEASURED_MIN, START, VIEW_PIXELS_MAX, Desk, gather_pile
from tests.scenarios.trial_parts import CoarseExtractor, part, save

COUNT = 48


def quiet(_done: int, _total: int, _label: str) -> None: ...


def unlabelled_folder(root: Path, count: int = COUNT, lots: int = 12) -> Path:
    """Names tell the truth: s for scratched."""
    for i in range(count):
        scratched = (i * 7) % 5 < 2
        save(part(i, scratched, (48, 48)), root / "unlabelled" / f"lot-{i % lots}" / f"{'s' if scratched else 'g'}{i:03d}.png")
    return root


def opened(book: LabelBook, **limits: int) -> Desk:
    return Desk(book, gather_pile(book, CoarseExtractor(), quiet, **limits), SystemClock())


@pytest.fixture
def book(tmp_path: Path) -> Iterator[LabelBook]:
    with open_book(unlabelled_folder(tmp_path / "parts"), SystemClock()) as found:
        yield found


def truth(name: str) -> str:
    return "defect" if name.rsplit("/", 1)[1].startswith("s") else "good"


def answer(desk: Desk, times: int) -> list[str]:
    """Answers truly; returns how each was asked."""
    hows = []
    for _ in range(times):
        asked = desk.state().asked
        assert asked is not None
        hows.append(asked.how)
        desk.answer(asked.id, truth(asked.name), True)
    return hows


def test_first_drawn_then_chosen_with_some_drawn(book: LabelBook) -> None:
    hows = answer(opened(book), 24)
    assert set(hows[:START]) == {"drawn"}
    assert hows[START:] == ["drawn" if n % DRAWN_EVERY == 0 else "chosen" for n in range(START, 24)]
    assert len(chosen_paths(book.root)) == hows.count("chosen")


def test_every_answer_is_in_labels_csv_and_the_model_learns(book: LabelBook) -> None:
    desk = opened(book)
    answer(desk, 30)
    state = desk.state()
    said = {file.path: file.label for file in read_labels(book.root).files}
    assert len(said) == state.labelled == state.good + state.defect == 30 and state.left == COUNT - 30
    assert all(label == (1 if truth(path) == "defect" else -1) for path, label in said.items())
    assert all(file.split == "train" for file in read_labels(book.root).files)
    now = state.curve[-1]
    assert now.labels == 30 and now.measured == 30 - len(chosen_paths(book.root)) and now.accuracy > 0.8
    assert 0.0 <= now.lower < now.accuracy and state.curve[0].measured >= MEASURED_MIN and state.grouped
    assert state.took.learn_ms > 0 and state.took.write_ms > 0
    assert all(one.defect_chance is None or 0 <= one.defect_chance <= 1 for one in state.recent)


def test_it_goes_on_where_it_was(book: LabelBook) -> None:
    desk = opened(book)
    answer(desk, 20)
    before, again = desk.state(), opened(book).state()
    assert again.asked == before.asked and again.labelled == 20
    assert again.curve == before.curve and again.recent == before.recent


def test_undo_asks_the_same_picture_again_also_after_a_new_start(book: LabelBook) -> None:
    desk = opened(book)
    answer(desk, 12)
    names = [said.name for said in desk.state().recent]
    for place in (11, 10):
        state = desk.undo()
        assert state.asked is not None and state.asked.name == names[place] and state.labelled == place
    desk = opened(book)
    state = desk.undo()
    assert state.asked is not None and state.asked.name == names[9] and names[9] not in {f.path for f in read_labels(book.root).files}
    for _ in range(9):
        desk.undo()
    with pytest.raises(ConflictError, match="no answer to take back"):
        desk.undo()


def test_a_chosen_picture_stays_a_chosen_one_when_asked_again(book: LabelBook) -> None:
    desk = opened(book)
    hows = answer(desk, START + 2)
    assert hows[-1] == "chosen"
    state = desk.undo()
    assert state.asked is not None and state.asked.how == "chosen"


def test_an_answer_can_be_changed(book: LabelBook) -> None:
    desk = opened(book)
    answer(desk, 10)
    first = desk.state().recent[0]
    other = "good" if first.verdict == "defect" else "defect"
    state = desk.answer(first.id, other, False)
    assert state.labelled == 10 and state.unsure == 1 and state.recent[-1].name == first.name and not state.recent[-1].sure
    assert opened(book).state().recent == state.recent
    assert desk.undo().labelled == 10
    assert {f.path: f.label for f in read_labels(book.root).files}[first.name] == (1 if first.verdict == "defect" else -1)


def test_put_off_pictures_come_last(book: LabelBook) -> None:
    desk = opened(book)
    first = desk.state().asked
    assert first is not None
    state = desk.answer(first.id, "later", True)
    assert state.put_off == 1 and state.asked is not None and state.asked.id != first.id
    answer(desk, COUNT - 1)
    state = desk.state()
    assert state.asked is not None and state.asked.id == first.id and state.asked.put_off
    answer(desk, 1)
    assert desk.state().asked is None and desk.state().left == 0


def test_an_unknown_or_stale_question_is_refused_and_changes_nothing(book: LabelBook) -> None:
    desk = opened(book)
    other = next(p.id for p in desk._pile.pictures if p.id != desk.state().asked.id)  # type: ignore[union-attr]
    with pytest.raises(NotFoundError):
        desk.answer("../../etc/passwd", "good", True)
    with pytest.raises(ConflictError, match="not asked now"):
        desk.answer(other, "good", True)
    with pytest.raises(ConflictError, match="no answer"):
        desk.answer(desk.state().asked.id, "perhaps", True)  # type: ignore[union-attr]
    assert desk.state().labelled == 0 and not (book.root / "labels.csv").exists()


def test_labels_of_other_hands_are_taken_up_at_once(book: LabelBook) -> None:
    desk = opened(book)
    answer(desk, 10)
    asked = desk.state().asked
    assert asked is not None
    target = book.root / "labels.csv"
    target.write_text(target.read_text() + f"{asked.name},{truth(asked.name)},sure,lot-x,,train\n")
    state = desk.state()
    assert state.labelled == 11 and state.asked is not None and state.asked.id != asked.id
    answer(desk, 1)
    assert len(read_labels(book.root).files) == 12
    target.write_text(target.read_text().replace(",good,", ",rusty,", 1))
    with pytest.raises(FolderError, match="rusty"):
        desk.answer(desk._pile.pictures[desk._next].id, "good", True)


def test_what_cannot_be_read_is_left_out_and_said(tmp_path: Path) -> None:
    root = unlabelled_folder(tmp_path, 12)
    (root / "unlabelled" / "torn.png").write_bytes(b"\x89PNG torn")
    with open_book(root, SystemClock()) as book:
        pile = gather_pile(book, CoarseExtractor(), quiet)
        assert len(pile.pictures) == 12 and len(pile.unread) == 1 and "torn.png" in pile.unread[0]
        assert gather_pile(book, CoarseExtractor(), quiet, 5).left_out == 8
    (root / "empty").mkdir()
    with pytest.raises(FolderError, match="no pictures without a label"), open_book(root / "empty", SystemClock()) as book:
        gather_pile(book, CoarseExtractor(), quiet)


def test_features_are_computed_once(book: LabelBook) -> None:
    class Counted(CoarseExtractor):
        seen = 0

        def quantised(self, images: list[np.ndarray]) -> np.ndarray:
            self.seen += len(images)
            return super().quantised(images)

    first, second = Counted(), Counted()
    assert (gather_pile(book, first, quiet).features == gather_pile(book, second, quiet).features).all()
    assert (first.seen, second.seen) == (COUNT, 0)


def test_pictures_are_shown_whole_and_not_too_large(tmp_path: Path) -> None:
    save(part(1, True, (VIEW_PIXELS_MAX * 2, 400)), tmp_path / "wide.jpg")
    with open_book(tmp_path, SystemClock()) as book:
        desk = opened(book)
        shown = decode(desk.picture(desk.state().asked.id))  # type: ignore[union-attr]
        assert shown.shape == (200, VIEW_PIXELS_MAX, 3)
        with pytest.raises(NotFoundError):
            desk.picture("wide.jpg")


def test_chosen_labels_teach_and_never_prove(book: LabelBook, tmp_path: Path) -> None:
    answer(opened(book), COUNT)
    chosen, files = chosen_paths(book.root), read_labels(book.root).files
    assert len(chosen) > 20
    split_of = draw(files, 10, COUNT - len(chosen), 0, chosen)
    assert {split_of[path] for path in chosen} == {"train"} and list(split_of.values()).count("holdout") == COUNT - len(chosen)
    with pytest.raises(FolderError, match="chosen by a model"):
        draw(files, 10, COUNT - len(chosen) + 1, 0, chosen)
    target = site_folder(book.root, tmp_path / "site", 10, 5, 0)
    laid = {file.path: file.split for file in read_labels(target).files}
    assert {laid[path] for path in chosen} == {"train"}
    assert samples_behind(target) == book.root.absolute() and samples_behind(book.root) == book.root
    assert site_folder(book.root, tmp_path / "site", 10, 5, 0) == target
