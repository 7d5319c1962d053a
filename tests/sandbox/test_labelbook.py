"""Answers in labels.csv: durable, others' lines untouched, taken back, and what a model chose is never held out."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.contracts.errors import ConflictError, FolderError, StorageError
from isthmus.kit.clock import SetClock
from isthmus.sandbox import labelbook
from isthmus.sandbox.folder import read_folder, read_labels
from isthmus.sandbox.labelbook import LabelBook, chosen_paths, journal_path, open_book

PNG = b"not looked at"


def pictures(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PNG)
    return root


def listed(root: Path, text: str, *names: str) -> Path:
    pictures(root, *names)
    (root / "labels.csv").write_bytes(text.encode())
    return root


def rows(root: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((root / "labels.csv").read_text(encoding="utf-8-sig"), newline="")))


def said(root: Path) -> dict[str, tuple[int, bool]]:
    return {file.path: (file.label, file.sure) for file in read_labels(root).files}


def test_a_folder_without_labels_begins_with_all_columns(tmp_path: Path) -> None:
    pictures(tmp_path, "unlabelled/lot-1/a.png", "unlabelled/lot-1/b.PNG", "c.png", ".hidden/d.png", "notes.txt")
    with open_book(tmp_path, SetClock()) as book:
        assert [(one.path, one.group) for one in book.shelf().open] == [
            ("unlabelled/lot-1/a.png", "lot-1"),
            ("unlabelled/lot-1/b.PNG", "lot-1"),
            ("c.png", "more-00000"),
        ]
        book.write("unlabelled/lot-1/a.png", 1, False, "chosen", "lot-1")
    assert rows(tmp_path) == [
        {"path": "unlabelled/lot-1/a.png", "label": "defect", "certainty": "unsure", "group": "lot-1", "kind": "", "split": "train"}
    ]


def test_sub_folders_of_classes_are_written_down_before_the_first_answer(tmp_path: Path) -> None:
    names = [f"good/{i}.png" for i in range(150)] + [f"scratched/{i}.png" for i in range(150)]
    pictures(tmp_path, *names, "unlabelled/x.png", "loose.png")
    before = read_folder(tmp_path)
    assert len(before.files) == 300
    with open_book(tmp_path, SetClock()) as book:
        assert {one.path for one in book.shelf().open} == {"unlabelled/x.png", "loose.png"}
        book.write("loose.png", -1, True, "drawn", "more-00000")
        assert {one.path for one in book.shelf().open} == {"unlabelled/x.png"}
    after = {file.path: file for file in read_folder(tmp_path).files}
    assert {path: file for path, file in after.items() if path != "loose.png"} == {file.path: file for file in before.files}
    assert after["loose.png"].split == "train"


def test_others_lines_columns_and_line_ends_stay(tmp_path: Path) -> None:
    text = '\ufeffPath,Label,kind\r\n"a, b.png",GOOD,"x ""y"""\r\nc.png, defect ,\r\n'
    listed(tmp_path, text, "a, b.png", "c.png", "new.png")
    inferred = {file.path: file for file in read_folder(tmp_path).files}
    with open_book(tmp_path, SetClock()) as book:
        book.write("new.png", -1, True, "drawn", "more-00000")
        raw = (tmp_path / "labels.csv").read_bytes()
        assert raw.startswith(b"\xef\xbb\xbfPath,Label,kind,certainty,group,split\r\n") and b"\n" not in raw.replace(b"\r\n", b"")
        assert b'"a, b.png",GOOD,"x ""y""",sure,' in raw and b"c.png, defect ,," in raw
        book.take_back()
    assert {file.path: file for file in read_folder(tmp_path).files} == inferred


def test_a_line_that_somebody_adds_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(tmp_path, "path,label,certainty,group,split\na.png,good,sure,g,train\n", "a.png", "b.png", "c.png", "d.png")
    target = tmp_path / "labels.csv"
    with open_book(tmp_path, SetClock()) as book:
        book.shelf()
        target.write_text(target.read_text() + "c.png,defect,sure,g,train\n")
        assert book.changed_by_others()
        made = labelbook._table

        def slow(*given: object) -> bytes:
            monkeypatch.setattr(labelbook, "_table", made)
            target.write_text(target.read_text() + "d.png,defect,sure,g,train\n")  # saved between reading and writing
            return made(*given)  # type: ignore[arg-type]

        monkeypatch.setattr(labelbook, "_table", slow)
        book.write("b.png", 1, True, "chosen", "g")
        assert not book.changed_by_others()
    assert set(said(tmp_path)) == {"a.png", "b.png", "c.png", "d.png"}


def test_one_who_keeps_writing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(tmp_path, "path,label\na.png,good\n", "a.png", "b.png")
    target, made = tmp_path / "labels.csv", labelbook._table

    def slow(*given: object) -> bytes:
        target.write_text(target.read_text() + "\n")
        return made(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(labelbook, "_table", slow)
    with open_book(tmp_path, SetClock()) as book, pytest.raises(ConflictError, match="written by somebody else"):
        book.write("b.png", 1, True, "chosen", "g")
    assert set(said(tmp_path)) == {"a.png"}


@pytest.mark.parametrize("torn", [False, True])
def test_killed_between_journal_and_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bool) -> None:
    pictures(tmp_path, "unlabelled/a.png", "unlabelled/b.png")
    with open_book(tmp_path, SetClock()) as book:
        book.write("unlabelled/a.png", 1, True, "chosen", "g")

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(labelbook, "write_whole", killed)
        with pytest.raises(KeyboardInterrupt):
            book.write("unlabelled/b.png", 1, True, "chosen", "g")
    monkeypatch.undo()
    if torn:
        raw = journal_path(tmp_path).read_bytes()
        journal_path(tmp_path).write_bytes(raw[:-9])
    with open_book(tmp_path, SetClock()) as book:
        assert [answer.path for answer in book.answers()] == ["unlabelled/a.png"]
        assert [one.path for one in book.shelf().open] == ["unlabelled/b.png"]
        book.write("unlabelled/b.png", -1, True, "drawn", "g")
        assert [answer.path for answer in book.answers()] == ["unlabelled/a.png", "unlabelled/b.png"]
    assert said(tmp_path) == {"unlabelled/a.png": (1, True), "unlabelled/b.png": (-1, True)}


def test_killed_while_taking_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path, "unlabelled/a.png", "unlabelled/b.png")
    with open_book(tmp_path, SetClock()) as book:
        book.write("unlabelled/a.png", 1, True, "chosen", "g")
        book.write("unlabelled/b.png", 1, True, "chosen", "g")

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(LabelBook, "_journal", killed)
        with pytest.raises(KeyboardInterrupt):
            book.take_back()
    monkeypatch.undo()
    with open_book(tmp_path, SetClock()) as book:
        assert [answer.path for answer in book.answers()] == ["unlabelled/a.png"]
        taken = book.take_back()
        assert taken is not None and taken.path == "unlabelled/a.png"
        assert book.take_back() is None
    assert said(tmp_path) == {}


STEPS = st.lists(
    st.tuples(st.sampled_from(["answer", "undo", "later", "reopen"]), st.integers(0, 4), st.sampled_from([-1, 1]), st.booleans()),
    max_size=25,
)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_order_of_answers_and_undos(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int, bool]]) -> None:
    root = listed(tmp_path_factory.mktemp("book"), "path,label\n0.png,good\n", *(f"{i}.png" for i in range(5)))
    history: list[dict[str, tuple[int, bool]]] = [said(root)]
    book = LabelBook(root, SetClock())
    for what, place, label, sure in steps:
        path, now = f"{place}.png", history[-1]
        if what == "answer":
            book.write(path, label, sure, "chosen", "g")
            history.append({**now, path: (label, sure)})
        elif what == "later" and path not in now:
            book.write(path, 0, True, "chosen", "g")
            history.append(now)
        elif what == "undo":
            assert (book.take_back() is None) == (len(history) == 1)
            del history[max(1, len(history) - 1) :]
        elif what == "reopen":
            book = LabelBook(root, SetClock())
        assert said(root) == history[-1]


def test_a_label_changed_by_hand_is_not_taken_back(tmp_path: Path) -> None:
    listed(tmp_path, "path,label,certainty,group,split\na.png,good,sure,g,train\n", "a.png", "b.png")
    with open_book(tmp_path, SetClock()) as book:
        book.write("b.png", 1, True, "chosen", "g")
        target = tmp_path / "labels.csv"
        target.write_text(target.read_text().replace("b.png,defect", "b.png,good"))
        assert book.take_back() is None
    assert said(tmp_path)["b.png"] == (-1, True)


def test_held_out_groups_are_not_asked_and_not_changed(tmp_path: Path) -> None:
    text = "path,label,group,split\na.png,good,g1,train\nb.png,defect,lot-2,holdout\nc.png,defect,g3,audit\n"
    listed(tmp_path, text, "a.png", "b.png", "c.png", "lot-2/d.png", "lot-9/e.png")
    with open_book(tmp_path, SetClock()) as book:
        shelf = book.shelf()
        assert [one.path for one in shelf.open] == ["lot-9/e.png"] and shelf.kept_back == 1
        with pytest.raises(ConflictError, match="held out"):
            book.write("b.png", -1, True, "changed", "lot-2")
    assert (tmp_path / "labels.csv").read_text() == text


def test_what_was_ever_chosen_stays_known(tmp_path: Path) -> None:
    pictures(tmp_path, "unlabelled/a.png", "unlabelled/b.png", "unlabelled/c.png")
    with open_book(tmp_path, SetClock()) as book:
        book.write("unlabelled/a.png", 1, True, "chosen", "g")
        book.write("unlabelled/b.png", 1, True, "drawn", "g")
        book.write("unlabelled/c.png", 0, True, "chosen", "g")
        book.write("unlabelled/a.png", -1, True, "changed", "g")
        book.take_back()
    assert chosen_paths(tmp_path) == {"unlabelled/a.png"}
    assert chosen_paths(tmp_path / "unlabelled") == frozenset()


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    pictures(tmp_path, "unlabelled/a.png")
    with open_book(tmp_path, SetClock()), pytest.raises(StorageError, match="another process"), open_book(tmp_path, SetClock()):
        pass


def test_bad_folders_get_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="does not exist"), open_book(tmp_path / "nowhere", SetClock()):
        pass
    listed(tmp_path, "path,label\nb.png,rusty\n", "b.png")
    with pytest.raises(FolderError, match="line 2"), open_book(tmp_path, SetClock()):
        pass
    (tmp_path / "labels.csv").unlink()
    journal_path(tmp_path).parent.mkdir(exist_ok=True)
    journal_path(tmp_path).write_bytes(b'{"path": 3}\n')
    with pytest.raises(FolderError, match="line 1 is damaged"), open_book(tmp_path, SetClock()):
        pass


def test_unlabelled_pictures_are_ignored_by_a_normal_run(tmp_path: Path) -> None:
    pictures(tmp_path, "good/a.png", "bad/b.png", "Unlabelled/c.png", "d.png")
    assert {file.path for file in read_folder(tmp_path).files} == {"good/a.png", "bad/b.png"}
    pictures(tmp_path / "only", "unlabelled/c.png")
    with pytest.raises(FolderError, match="neither"):
        read_folder(tmp_path / "only")


@pytest.mark.parametrize("text", ["path,label\na.png,good,more\n", "name,label\na.png,good\n", 'path,label\n"a.png,good\n', "\xff\xfe", ""])
def test_a_table_that_others_broke_is_not_written_over(tmp_path: Path, text: str) -> None:
    listed(tmp_path, "path,label\na.png,good\n", "a.png", "b.png")
    with open_book(tmp_path, SetClock()) as book:
        broken = text.encode("latin-1")
        (tmp_path / "labels.csv").write_bytes(broken)
        with pytest.raises(FolderError):
            book.write("b.png", 1, True, "chosen", "g")
    assert (tmp_path / "labels.csv").read_bytes() == broken
