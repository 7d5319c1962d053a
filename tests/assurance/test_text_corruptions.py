"""Corruptions of texts: the same for everybody, growing with the severity, and never nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.assurance.corruptions import corrupt, families_of
from isthmus.assurance.text_corruptions import CUT_CHARACTERS_MIN, TEXT_FAMILIES
from isthmus.contracts.errors import InputError
from isthmus.contracts.schema import Column, Schema
from isthmus.kit.writing import coded, decode_text, written

TEXTS = Schema(columns=(Column(name="text", kind="text"),))
LETTER = "The zoom sticks, and Café Müller's repair cost more than a new one! 画面が暗い。 لا يعمل"
PLAIN = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=80).filter(lambda text: text.strip("\ufeff").strip())


def made(text: str, family: str, severity: int) -> str:
    return written(corrupt(coded(text), family, severity, TEXTS))


@given(PLAIN, st.sampled_from(TEXT_FAMILIES), st.integers(1, 5))
def test_any_text_stays_a_text_that_the_decoder_takes(text: str, family: str, severity: int) -> None:
    before = decode_text(text.encode())
    once, again = (corrupt(before, family, severity, TEXTS) for _ in range(2))
    assert once.dtype == np.uint32 and np.array_equal(once, again)
    assert written(once).strip()


def test_each_family_does_what_it_says() -> None:
    assert families_of(TEXTS) == TEXT_FAMILIES
    assert made("naïve, café.", "marks", 5) == "naive cafe"
    assert made("it broke", "case", 5) == "IT BROKE"
    assert made(LETTER, "cut", 1).startswith(made(LETTER, "cut", 5)) and made("too short", "cut", 5) == "too short"[:CUT_CHARACTERS_MIN]
    typed = made(LETTER * 4, "typos", 5)
    assert typed != LETTER * 4 and 0.7 < len(typed) / len(LETTER * 4) < 1.3
    assert made("画面", "case", 5) == "画面"


def test_a_harder_step_hits_what_a_milder_one_hits() -> None:
    def capitals(severity: int) -> set[int]:
        return {i for i, word in enumerate(made("it broke on the very first day", "case", severity).split()) if word.isupper()}

    assert capitals(1) <= capitals(2) <= capitals(3) <= capitals(4) <= capitals(5)
    lengths = [len(made(LETTER, "marks", severity)) for severity in range(1, 6)]
    assert lengths == sorted(lengths, reverse=True) and lengths[-1] < len(LETTER)


def test_others_are_refused() -> None:
    for family, severity in (("noise", 1), ("typos", 0), ("typos", 6)):
        with pytest.raises(InputError):
            corrupt(coded("a text"), family, severity, TEXTS)
