"""Why a text has its score: each passage left out in turn, and the model asked again.

Exact in what it says: it is the model's own score of the text without that passage. It is not a sum: passages that say the same thing twice
each seem to matter little, and the effects do not add up to the score. A passage is a sentence where the text has several; else a few
words, or what stands between two marks in a script without spaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from isthmus.kit.writing import Text, coded, written

PASSAGES_MAX = 12
_SENTENCES = re.compile(r"[^.!?。！？\n]+[.!?。！？\n]*\s*")
_WORDS = re.compile(r"\S+\s*")
_CLAUSES = re.compile(r"[^，、；：,;:\s]+[，、；：,;:\s]*")
RUN_CHARACTERS = 4


@dataclass(frozen=True)
class Passage:
    """effect: the score of the whole text less that of the text without it; above 0 it speaks for a defect."""

    words: str
    effect: float


def passages_of(text: str) -> list[str]:
    """1 to PASSAGES_MAX pieces that make up the text, in order."""
    for pattern in (_SENTENCES, _WORDS, _CLAUSES):
        found = pattern.findall(text)
        if len(found) > 1 and "".join(found) == text:
            return _joined(found)
    return _joined([text[start : start + RUN_CHARACTERS] for start in range(0, len(text), RUN_CHARACTERS)] or [text])


def _joined(parts: list[str]) -> list[str]:
    count = min(PASSAGES_MAX, len(parts))
    edges = [len(parts) * place // count for place in range(count + 1)]
    return ["".join(parts[a:b]) for a, b in pairwise(edges)]


def reasons(text: Text, scores: Callable[[list[Text]], NDArray[np.float64]]) -> tuple[Passage, ...]:
    """The passages with their effects, the strongest first. A text of one passage has none: nothing would be left of it."""
    whole = written(text)
    parts = passages_of(whole)
    kept = [(part, "".join(parts[:place] + parts[place + 1 :])) for place, part in enumerate(parts)]
    kept = [(part, rest) for part, rest in kept if part.strip() and rest.strip()]
    if not kept:
        return ()
    found = scores([text, *(coded(rest) for _, rest in kept)])
    made = [Passage(part.strip(), float(found[0] - score)) for (part, _), score in zip(kept, found[1:], strict=True)]
    return tuple(sorted(made, key=lambda passage: -abs(passage.effect)))
