"""A package's own cases put to a model: golden ones that it must get right, and known-bad ones that it must not answer.

They prove nothing about a rate; a few cases never do. They catch what figures may miss: the wrong class order, another decoder, a model
that answers a picture of the floor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError
from isthmus.contracts.inference import VERDICTS
from isthmus.contracts.package import ProbeCase
from isthmus.contracts.schema import Schema
from isthmus.kit.decoders import decoded_record

PROBES_MAX = 64
"""Cases of a package that are put to a model."""

PROBES_BYTES_MAX = 2 * 1024 * 1024
"""All images of a package's cases together."""

REFUSED, PERSON = "refused", "person"
Judged = Callable[[list[NDArray[Any]]], tuple[NDArray[np.float64], NDArray[np.int64]]]


@dataclass(frozen=True)
class ProbeResult:
    """found: a verdict, or refused when the file is no image that is taken."""

    file: str
    expect: str
    found: str
    why: str

    @property
    def holds(self) -> bool:
        """A case that must not be answered may be refused or left to a person; any other needs its very verdict."""
        return self.found in (REFUSED, PERSON) if self.expect == REFUSED else self.found == self.expect

    @property
    def sentence(self) -> str:
        must = "must not be answered" if self.expect == REFUSED else f"must be {self.expect}"
        return f"the probe {self.file} {must} and the model says {self.found} ({self.why})"


def checked_cases(cases: Sequence[ProbeCase]) -> Sequence[ProbeCase]:
    """The cases if they are within limits. Raises InputError."""
    total = sum(len(case.image) for case in cases)
    if len(cases) > PROBES_MAX or total > PROBES_BYTES_MAX:
        what = f"the package has {len(cases)} probes of {total} bytes, {PROBES_MAX} of {PROBES_BYTES_MAX} bytes are put to a model"
        raise InputError(what, "keep the telling ones, and make their images smaller")
    return cases


def probed(cases: Sequence[ProbeCase], judged: Judged, schema: Schema | None = None) -> tuple[ProbeResult, ...]:
    """Every case's result, in order. judged: decoded records -> scores and verdicts, as an engine has it. schema: of records that are no
    pictures; a case's file then holds one as JSON, or a text."""
    found: list[ProbeResult] = []
    for case in checked_cases(cases):
        try:
            record = decoded_record(case.image, case.file, schema)
            said: str = VERDICTS[int(judged([record])[1][0])]
        except InputError:
            said = REFUSED
        found.append(ProbeResult(case.file, case.expect, said, case.why))
    return tuple(found)
