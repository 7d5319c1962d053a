"""The model that learns one label at a time: equal to solving anew, and asks what it says it asks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.foundry.labelling import INTERCEPT_PENALTY, PENALTIES, RULES, Given, LabelModel

ANSWERS = st.lists(st.tuples(st.integers(0, 19), st.sampled_from([-1.0, 1.0]), st.sampled_from([0.5, 1.0]), st.booleans()), max_size=150)


def pictures(seed: int, count: int = 20, features: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 100, (count, features))


def solved(model: LabelModel, labels: dict[int, Given], penalty: float) -> np.ndarray:
    rows = list(labels)
    z, y, w = model.z[rows], np.array([labels[r].y for r in rows]), np.array([labels[r].w for r in rows])
    prior = np.diag([INTERCEPT_PENALTY, *[penalty] * (model.z.shape[1] - 1)])
    return np.linalg.solve((z * w[:, None]).T @ z + prior, z.T @ (w * y)) if rows else np.zeros(model.z.shape[1])


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 1000), answers=ANSWERS)
def test_answers_one_by_one_equal_solving_anew(seed: int, answers: list[tuple[int, float, float, bool]]) -> None:
    model, labels = LabelModel(pictures(seed)), dict[int, Given]()
    for row, y, w, take_back in answers:
        if take_back and row in labels:
            model.remove(row)
            del labels[row]
        else:
            labels[row] = Given(y, w)
            model.add(row, labels[row])
    assert model.given == labels
    for solution in model._solutions:
        np.testing.assert_allclose(solution.coefficients, solved(model, labels, solution.penalty), atol=1e-8)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), grouped=st.booleans())
def test_fold_out_equals_a_fit_without_the_group(seed: int, grouped: bool) -> None:
    rng = np.random.default_rng(seed)
    model = LabelModel(pictures(seed, 40))
    groups = rng.integers(0, 3, 40) if grouped else np.arange(40)  # 3 groups of some 13 are more than there are features
    labels = {int(r): Given(float(rng.choice([-1, 1])), float(rng.choice([0.5, 1.0]))) for r in rng.permutation(40)[:36]}
    model.learn(list(labels), list(labels.values()))
    rows, scores = model.fold_out(groups)
    for row, score in zip(rows, scores, strict=True):
        others = {r: label for r, label in labels.items() if groups[r] != groups[row]}
        assert score == pytest.approx(float(model.z[row] @ solved(model, others, model.solution.penalty)), abs=1e-8)


def test_the_rule_of_change_is_the_expected_change() -> None:
    """Against labels really given, both ways, weighted by their predicted chances; widened by what the model does not know."""
    model = LabelModel(pictures(3, 30))
    model.learn([0, 1, 2, 3, 4, 5], [Given(1.0, 1.0), Given(-1.0, 1.0)] * 3)
    penalty, before = model.solution.penalty, model.scores
    worth, place = RULES["change"], 17
    expected, chance = 0.0, (1.0 + before[place]) / 2.0
    for y, p in ((1.0, chance), (-1.0, 1.0 - chance)):
        after = model.z @ solved(model, {**model.given, place: Given(y, 1.0)}, penalty)
        expected += p * float(((after - before) ** 2).mean())
    v = model.z @ model.solution.inverse
    q = np.einsum("ij,ij->i", v, model.z)
    moved = np.sqrt(((v @ model.z.T) ** 2).mean(axis=1))

    class Seen:
        pass

    seen = Seen()
    seen.s, seen.q, seen.moved = before, q, moved  # type: ignore[attr-defined]
    assert worth(seen)[place] == pytest.approx(expected * (1.0 + q[place]))  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", list(RULES))
def test_a_copy_of_a_labelled_picture_is_not_asked(rule: str) -> None:
    rows = pictures(5, 12)
    rows[7] = rows[2]
    model = LabelModel(rows)
    model.learn([2, 4], [Given(1.0, 1.0), Given(-1.0, 1.0)])
    assert model.worth(rule)[7] == 0.0
    asked = [model.best(np.ones(12, dtype=bool), rule)]
    while len(model.given) < 11:
        row = model.best(np.ones(12, dtype=bool), rule)
        assert row is not None and row not in model.given
        asked.append(row)
        model.add(row, Given(1.0, 1.0))
    assert 7 not in asked[:-1]


def test_only_open_pictures_are_asked_and_there_may_be_none() -> None:
    model = LabelModel(pictures(1))
    free = np.zeros(20, dtype=bool)
    assert model.best(free, "change") is None
    free[9] = True
    assert model.best(free, "change") == 9
    model.add(9, Given(1.0, 1.0))
    assert model.best(free, "change") is None


def test_equal_features_and_one_picture_do_no_harm() -> None:
    for rows in (np.zeros((5, 3)), np.zeros((1, 3))):
        model = LabelModel(rows)
        assert model.best(np.ones(len(rows), dtype=bool), "change") == 0
        model.add(0, Given(-1.0, 1.0))
        assert np.isfinite(model.scores).all()


def test_the_penalties_are_tried_in_order() -> None:
    assert list(PENALTIES) == sorted(PENALTIES)
