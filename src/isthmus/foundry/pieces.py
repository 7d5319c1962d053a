"""The tokeniser: a text cut into the pieces of a SentencePiece unigram model, the likeliest way.

Kudo, "Subword Regularization" (ACL 2018): every piece has a log-probability; the cut with the largest sum is found by dynamic programming
(Viterbi), the earliest found of equals. Before it each code point is exchanged as the model's own table says, and runs of spaces become
one. Sums run in doubles, so that the cut is the same on every machine.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from isthmus.foundry.textfile import TextFile

SPACE = "\u2581"
UNKNOWN_BELOW = 10.0
"""How far an unknown character lies below the least likely piece."""
Tokens = NDArray[np.int64]


class Pieces:
    """Cuts texts. The tables are made once."""

    def __init__(self, file: TextFile) -> None:
        self.begin, self.end, self.padding, self.unknown = file.marks
        self._window = file.sizes["window"]
        scores = file.scores.astype(np.float64).tolist()
        self._known = {piece: (score, place) for place, (piece, score) in enumerate(zip(file.pieces, scores, strict=True)) if piece}
        self._known.pop(file.pieces[self.unknown], None)
        self._longest = max(map(len, self._known))
        self._unlikely = min(scores) - UNKNOWN_BELOW
        self._normal = file.normal

    def cut(self, text: str) -> list[int]:
        """Ids of the pieces, without marks of begin and end."""
        plain = text.translate(self._normal)
        while "  " in plain:
            plain = plain.replace("  ", " ")
        plain = (plain if plain.startswith(" ") else " " + plain).replace(" ", SPACE)
        size, known, longest = len(plain), self._known, self._longest
        best = [0.0] + [-np.inf] * size
        came: list[tuple[int, int]] = [(0, 0)] * (size + 1)
        for start in range(size):
            here = best[start]
            for end in range(start + 1, min(size, start + longest) + 1):
                found = known.get(plain[start:end])
                if found is not None and here + found[0] > best[end]:
                    best[end], came[end] = here + found[0], (start, found[1])
            if here + self._unlikely > best[start + 1]:
                best[start + 1], came[start + 1] = here + self._unlikely, (start, self.unknown)
        ids, place = [], size
        while place > 0:
            place, piece = came[place]
            ids.append(piece)
        return ids[::-1]

    def windows(self, text: str) -> Tokens:
        """(windows, pieces) int64: the text's pieces in as many windows as it needs, as even as can be, each begun and ended, padded."""
        ids = self.cut(text)
        room = self._window - 2
        count = max(1, -(-len(ids) // room))
        edges = [len(ids) * place // count for place in range(count + 1)]
        parts = [[self.begin, *ids[a:b], self.end] for a, b in pairwise(edges)]
        found = np.full((count, max(map(len, parts))), self.padding, dtype=np.int64)
        for row, part in zip(found, parts, strict=True):
            row[: len(part)] = part
        return found
