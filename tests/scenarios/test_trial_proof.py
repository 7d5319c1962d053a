"""The promise of a trial holds as often as it says; the leave-out scores are those of a second fit."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus.assurance.bounds import clopper_pearson_upper, needed_samples
from isthmus.kit.hatmatrix import design, leave_group_out
from isthmus.scenarios.trial_model import LAMBDAS, TrialModel
from isthmus.scenarios.trial_proof import (
    Side,
    Step,
    errors_allowed,
    expected_errors,
    more_needed,
    planned_sequence,
    prove,
    step_at,
    threshold_grid,
)

SETS = 1000
FRESH = 3000


def drawn(rng: np.random.Generator, n: int, distance: float, flips: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """n records of two Gaussian classes in four features; a share `flips` of labels is wrong at random."""
    classes = (rng.random(n) < 0.4).astype(np.int64)
    features = rng.normal(size=(n, 4)) * 1000
    features[:, 0] += np.where(classes == 1, distance, -distance) * 1000
    return features, np.where(rng.random(n) < flips, 1 - classes, classes)


def side(margin: np.ndarray, right: np.ndarray, groups: np.ndarray | None = None) -> Side:
    return Side(margin, right, np.arange(len(margin)) if groups is None else groups)


@pytest.mark.parametrize(("distance", "flips"), [(1.5, 0.0), (3.0, 0.045)])
def test_the_promise_is_false_at_most_as_often_as_the_confidence_allows(distance: float, flips: float) -> None:
    """1,000 data sets, each with its own model, plan and proof; the true error is measured on fresh records.

    Both the promise and, where it fails, the bound told instead count as false when the true error is higher.
    """
    rng = np.random.default_rng(11)
    fresh, truth = drawn(rng, FRESH, distance, flips)
    false = proven = 0
    for _ in range(SETS):
        features, classes = drawn(rng, 240, distance, flips)
        model = TrialModel(features[:120], classes[:120], np.arange(120), 2)
        scored = model.score(features[120:])
        learned = side(np.where(model.own.familiar, model.own.margin, -1), model.own.verdict == classes[:120])
        tested = side(np.where(scored.familiar, scored.margin, -1), scored.verdict == classes[120:])
        promise = prove(learned, tested, 0.05, 0.95)
        claimed = 0.05 if promise.proven else promise.chosen.bound
        seen = model.score(fresh)
        answered = seen.familiar & (seen.margin >= promise.chosen.threshold)
        proven += promise.proven
        false += float((seen.verdict != truth)[answered].mean()) > claimed if answered.any() else 0
    # Binomial(1000, 0.05) exceeds 67 with probability 0.008.
    assert false <= 67, f"{false} false promises of {SETS}"
    assert proven > 20, f"the check has no force: only {proven} promises were made"


def test_promises_on_groups_hold_approximately() -> None:
    """Whole lots err together; the naive bound would be wrong far more often than one time in twenty."""
    rng = np.random.default_rng(5)
    false = naive = 0
    for _ in range(SETS):
        halves = []
        for _half in range(2):
            bad_lot = rng.random(40) < 0.055
            wrong = np.repeat(bad_lot, 6) & (rng.random(240) < 0.9)
            halves.append(side(np.full(240, 1.0), ~wrong, np.repeat(np.arange(40), 6)))
        step = prove(halves[0], halves[1], 0.05, 0.95).chosen
        false += step.bound < 0.055 * 0.9
        naive += clopper_pearson_upper(step.errors, step.answered, 0.95) < 0.055 * 0.9
    assert false <= 0.08 * SETS
    assert naive > 0.15 * SETS


def test_leave_out_scores_are_those_of_a_second_fit() -> None:
    rng = np.random.default_rng(2)
    features, classes = drawn(rng, 60, 1.0)
    groups = np.repeat(np.arange(20), 3)
    model = TrialModel(features, classes, groups, 2)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    z = design(features, mean, scale)
    penalty = np.diag([0.0, *[model.penalty] * 4])
    y = np.where(classes == 1, 1.0, -1.0)
    inverse = np.linalg.inv(z.T @ z + penalty)
    expected = leave_group_out(z, np.ones(60), y, groups, inverse, inverse @ z.T @ y)
    assert np.allclose(model.own.outputs[:, 0] + model.zero, expected, atol=1e-6)
    kept = groups != 7
    again = np.linalg.solve(z[kept].T @ z[kept] + penalty, z[kept].T @ y[kept])
    assert np.allclose(model.own.outputs[~kept, 0] + model.zero, z[~kept] @ again, atol=1e-6)


def test_unfamiliarity_is_the_left_out_quadratic_form_and_grows_outside_of_what_was_learned() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(20, 50)) * 1000  # more features than records
    classes = (np.arange(20) % 2).astype(np.int64)
    model = TrialModel(features, classes, np.arange(20), 2)
    far = model.score(features.mean(axis=0) + rng.normal(size=(5, 50)) * 9000)
    assert (far.unfamiliarity > model.own.unfamiliarity.max()).all()
    assert not far.familiar.any()
    assert model.penalty in LAMBDAS


def test_linear_form_gives_the_same_scores() -> None:
    features, classes = drawn(np.random.default_rng(4), 80, 1.0)
    model = TrialModel(features[:60], classes[:60], np.arange(60), 2)
    coefficients, bias = model.linear()
    assert np.allclose(features[60:] @ coefficients + bias, model.score(features[60:]).outputs[:, 0])


def test_more_than_two_classes_share_one_gram() -> None:
    rng = np.random.default_rng(6)
    classes = np.arange(150) % 3
    features = rng.normal(size=(150, 5)) * 300
    features[np.arange(150), classes] += 3000
    model = TrialModel(features[:90], classes[:90], np.arange(90), 3)
    scored = model.score(features[90:])
    assert scored.outputs.shape == (60, 3)
    assert (scored.verdict == classes[90:]).mean() > 0.95
    assert (scored.margin >= 0).all()


def test_the_plan_knows_nothing_of_the_tested_half() -> None:
    rng = np.random.default_rng(7)
    learned = side(rng.random(100), rng.random(100) < 0.9)
    plan = planned_sequence(learned, 100, 0.05, 0.95, 1.0)
    for seed in range(5):
        other = np.random.default_rng(seed)
        tested = side(other.random(100), other.random(100) < 0.97)
        steps = prove(learned, tested, 0.05, 0.95).steps
        assert [s.threshold for s in steps] == plan[: len(steps)]


def test_testing_stops_at_the_first_threshold_that_fails() -> None:
    right = np.linspace(0, 1, 200) > 0.4
    learned = side(np.linspace(0, 1, 200), right)
    promise = prove(learned, side(np.linspace(0, 1, 200), right), 0.05, 0.95)
    assert promise.proven
    assert all(s.bound <= 0.05 for s in promise.steps[: promise.passed])
    assert promise.steps[-1].bound > 0.05
    assert len(promise.steps) == promise.passed + 1
    assert promise.chosen.threshold == min(s.threshold for s in promise.steps[: promise.passed])


def test_numbers_that_people_know() -> None:
    assert (needed_samples(0.05, 0.95), needed_samples(0.01, 0.95)) == (59, 299)
    step = Step(0.5, 300, 261, 261, 0, 1.0, 0.0114)
    assert more_needed(step, 0.01, 0.95) == 38
    assert errors_allowed(np.array([59.0]), 0.05, 0.95) == 0
    assert errors_allowed(np.array([58.0]), 0.05, 0.95) == -1
    assert errors_allowed(np.array([0.0]), 0.05, 0.95) == -1


def test_fewer_than_eight_groups_promise_nothing() -> None:
    tested = side(np.ones(70), np.ones(70, bool), np.repeat(np.arange(7), 10))
    assert step_at(tested, 0.5, 1.0, 0.95).bound == 1.0


def test_half_without_answers_promises_nothing() -> None:
    nothing = side(np.full(10, -1.0), np.ones(10, bool))
    assert threshold_grid(nothing) == [0.0]
    assert expected_errors(nothing, [0.0]) == [1.0]
    promise = prove(nothing, nothing, 0.05, 0.95)
    assert not promise.proven
    assert promise.chosen.bound == 1.0
