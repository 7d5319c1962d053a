"""A package's own cases, put to a model."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from isthmus.assurance.probes import PROBES_BYTES_MAX, PROBES_MAX, checked_cases, probed
from isthmus.contracts.errors import InputError
from isthmus.contracts.package import ProbeCase
from isthmus.kit.pictures import encode_png

GOOD, DEFECT, PERSON = 10, 250, 128


def judged(images: list[NDArray[np.uint8]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Dark is good, bright is a defect, grey is for a person."""
    scores = np.array([float(image.mean()) for image in images])
    return scores, np.where(scores < 100, 0, np.where(scores > 200, 1, 2)).astype(np.int64)


def case(expect: str, grey: int | None) -> ProbeCase:
    image = b"no image" if grey is None else encode_png(np.full((16, 16, 3), grey, dtype=np.uint8))
    return ProbeCase(file=f"{expect}.png", expect=expect, why="a known one", image=image)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("expect", "grey", "found", "holds"),
    [
        ("good", GOOD, "good", True),
        ("good", DEFECT, "defect", False),
        ("good", PERSON, "person", False),
        ("good", None, "refused", False),
        ("defect", DEFECT, "defect", True),
        ("defect", GOOD, "good", False),
        ("refused", PERSON, "person", True),
        ("refused", None, "refused", True),
        ("refused", GOOD, "good", False),
        ("refused", DEFECT, "defect", False),
    ],
)
def test_each_case(expect: str, grey: int | None, found: str, holds: bool) -> None:
    (result,) = probed([case(expect, grey)], judged)
    assert (result.found, result.holds) == (found, holds)
    assert f"the probe {expect}.png must" in result.sentence and "a known one" in result.sentence


def test_limits() -> None:
    assert probed([], judged) == ()
    with pytest.raises(InputError, match=f"{PROBES_MAX} of"):
        checked_cases([case("good", GOOD)] * (PROBES_MAX + 1))
    with pytest.raises(InputError):
        checked_cases([ProbeCase(file="a", expect="good", why="x", image=b"x" * (PROBES_BYTES_MAX + 1))])
