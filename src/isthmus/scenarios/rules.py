"""What a manifest must keep beyond its types, so that the exchange will build, certify and serve it. Pure.

Each rule is one that the exchange, the foundry or a node would refuse by later; here it is told before anything is started, with the field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from isthmus.assurance.certificate import VALIDITY_S_MAX
from isthmus.assurance.corruptions import FAMILIES, SCRATCH, families_of
from isthmus.assurance.record_corruptions import RECORD_FAMILIES, SEVERITIES
from isthmus.assurance.text_corruptions import TEXT_FAMILIES
from isthmus.contracts.agreement import AGGREGATE_RATIO_MIN
from isthmus.contracts.bars import PPM
from isthmus.contracts.errors import InputError
from isthmus.contracts.money import AMOUNT_MAX, CURRENCY
from isthmus.contracts.package import Level
from isthmus.contracts.parts import of_patches, parsed_part, sources_of
from isthmus.contracts.scenario import Certify, Interface, Recipe, Replicate, Scenario, Serve, Trees
from isthmus.contracts.schema import checked_schema
from isthmus.contracts.statistic import AUGMENTATIONS_MAX, CANDIDATES_MAX, WEIGHT_MAX
from isthmus.contracts.targets import checked_targets, checked_weighing
from isthmus.contracts.textparts import text_sources
from isthmus.contracts.treesums import ASIDE_MAX, ASIDE_MIN, DEPTH_MAX, OWNER_RECORDS_MAX, ROUNDS_MAX, TREES_MAX
from isthmus.foundry.stageparts import checked_parts
from isthmus.foundry.stages import check_parts, checked_source
from isthmus.kit.ids import is_slug, slug
from isthmus.scenarios.draw import FIT_MIN
from isthmus.scenarios.located import Steps

DAY_S = 24 * 3600
VALIDITY_DAYS_MAX = VALIDITY_S_MAX // DAY_S
SHARES = ("compute_ppm", "model_vendor_ppm", "owners_ppm", "exchange_ppm")
VERSION = re.compile(
    r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
)
VERSION_CHARS_MAX = 48
"""A scenario's version."""

TEXT_CHARS_MAX = 2000
SMALL_PPM = 100
WEIGHTING_LEAST_ABOVE, WEIGHTING_MOST = 1 / 32, 4096
TREE_FEATURES_MAX, TREE_CUTS_MAX = 64, 16


@dataclass(frozen=True)
class Breach:
    """A rule that a manifest breaks, and the field that breaks it."""

    code: str
    steps: Steps
    what: str
    next: str
    level: Level = "error"


def identity_breaches(fields: dict[str, Any]) -> Iterator[Breach]:
    """Of the manifest's own fields that are text; fields: those whose type is right."""
    if "id" in fields:
        try:
            slug(fields["id"], "the scenario's id")
        except InputError as error:
            yield Breach("bad-id", ("id",), error.message, error.next_step)
    if "version" in fields and (not VERSION.fullmatch(fields["version"]) or len(fields["version"]) > VERSION_CHARS_MAX):
        what = f"version {fields['version']!r} is no version"
        yield Breach("bad-version", ("version",), what, "write MAJOR.MINOR.PATCH, such as 0.1.0 (semver.org)")
    for name in ("title", "purpose", "intended_use", "prohibited_use"):
        if name in fields and not fields[name].strip():
            yield Breach("empty-text", (name,), f"{name} is empty", "say it in a sentence")
        elif name in fields and len(fields[name]) > TEXT_CHARS_MAX:
            yield Breach("long-text", (name,), f"{name} has more than {TEXT_CHARS_MAX} characters", "say it shorter")
    if "interface" in fields:
        yield from _interface_breaches(fields["interface"])
        interface = fields["interface"]
        task = f"{interface.input}-{'forecast' if interface.output == 'value' else 'inspection'}"
        if "task" in fields and fields["task"] != task:
            what = f"task is {fields['task']}, the input is {interface.input} and the output is {interface.output}"
            yield Breach("wrong-task", ("task",), what, f"write {task}, or another input or output")
    if "interface" in fields and len({c.strip() for c in fields["interface"].classes} - {""}) < 2:
        yield Breach(
            "bad-classes", ("interface", "classes"), "the two classes have one name, or none", "name the good one, then the defect"
        )


def _output_breaches(interface: Interface) -> Iterator[Breach]:
    """Numbers that can be foretold, where the output is one; none where it is a verdict."""
    if interface.output == "verdict":
        if interface.foretold:
            yield Breach(
                "bad-targets", ("interface", "targets"), "targets are of numbers, and the output is a verdict", "write output: value"
            )
        return
    schema = interface.schema
    if schema is None:
        yield Breach("bad-targets", ("interface", "output"), "numbers are not foretold from pictures", "take table or series as input")
        return
    try:
        checked_targets(interface.foretold, schema)
    except InputError as error:
        yield Breach("bad-targets", ("interface", "targets"), error.message, error.next_step)


def _interface_breaches(interface: Interface) -> Iterator[Breach]:
    """Columns that records can be read by, where records are not pictures, and numbers that can be foretold from them."""
    yield from _output_breaches(interface)
    if interface.input == "image":
        if interface.columns or interface.steps != 1:
            what = "pictures have no columns and no steps"
            yield Breach("bad-columns", ("interface",), what, "leave columns and steps out, or take table or series as input")
        return
    schema = interface.schema
    assert schema is not None
    try:
        checked_schema(schema)
    except InputError as error:
        yield Breach("bad-columns", ("interface", "columns"), error.message, error.next_step)
    if (interface.input == "text") != schema.written:
        what = f"input is {interface.input} and {'a' if schema.written else 'no'} column is of kind text"
        yield Breach("bad-columns", ("interface", "columns"), what, "a text has one column, of kind text; a table or series none")
    elif interface.input != "text" and (interface.input == "table") != (interface.steps == 1):
        what = f"input is {interface.input} and steps is {interface.steps}"
        yield Breach("bad-columns", ("interface", "steps"), what, "a table's row has one step, a series more")


def recipe_breaches(recipe: Recipe, interface: Interface | None = None) -> Iterator[Breach]:
    """Backbone and parts are known, views begin with the record itself, penalties can be used, and leavers stay hidden. interface: what
    the records are; None where that is not known, so that only what needs no columns is looked at."""
    schema = None if interface is None else interface.schema
    try:
        if interface is not None:
            checked_source(recipe.backbone, schema)
    except InputError as error:
        yield Breach("unknown-backbone", ("recipe", "backbone"), error.message, error.next_step)
    else:
        for name in ("parts", "parts_after_leaving"):
            if schema is None and interface is not None:
                yield from _part_breaches(name, getattr(recipe, name))
            elif schema is not None and (name == "parts" or recipe.parts_after_leaving):
                try:
                    check_parts(recipe.backbone, getattr(recipe, name), schema)
                except InputError as error:
                    yield Breach("bad-parts", ("recipe", name), f"{name}: {error.message}", error.next_step)
    texts = schema is not None and schema.written
    sources = text_sources if texts else sources_of
    common = sorted(sources(recipe.parts) & sources(recipe.parts_after_leaving))
    if schema is not None and not texts and recipe.parts_after_leaving:
        common = ["the same columns"]
    if common:
        what = (
            f"parts_after_leaving and parts are both made of {', '.join(common)}: sums after a leaver could be subtracted from those before"
        )
        next_step = "choose parts that share nothing with parts" if schema is None or texts else "leave it empty: []"
        yield Breach("shared-sources", ("recipe", "parts_after_leaving"), what, next_step)
    yield from _weigh_breaches(recipe, interface)
    if interface is not None and interface.output == "value" and recipe.head != "ridge":
        yield Breach("bad-head", ("recipe", "head"), f"a head {recipe.head} foretells no numbers", "write head: ridge, or leave it out")
    if schema is not None and tuple(recipe.views) != ("identity",):
        yield Breach("bad-views", ("recipe", "views"), "records that are no pictures have one view", "write [identity]")
    views: Sequence[str] = recipe.views
    if not views or views[0] != "identity" or len(set(views)) < len(views):
        what = f"views {list(views)} do not begin with identity, or name one twice"
        yield Breach("bad-views", ("recipe", "views"), what, "put identity first, then each other view once")
    yield from _augmentation_breaches(recipe, interface)
    if not 0 <= recipe.drawn_weight <= WEIGHT_MAX:
        yield Breach("out-of-range", ("recipe", "drawn_weight"), f"drawn_weight is {recipe.drawn_weight}", f"write 0 to {WEIGHT_MAX}")
    elif recipe.drawn_weight and (schema is not None or recipe.head != "ridge"):
        what = "defects are drawn into pictures only, for a head that is ridge"
        yield Breach("bad-augmentations", ("recipe", "drawn_weight"), what, "leave drawn_weight out")
    for name in ("sure_weight", "unsure_weight"):
        if not 1 <= getattr(recipe, name) <= WEIGHT_MAX:
            yield Breach("out-of-range", ("recipe", name), f"{name} is {getattr(recipe, name)}", f"write 1 to {WEIGHT_MAX}")
    for place, lam in enumerate(recipe.lambdas):
        if not (math.isfinite(lam) and lam > 0):
            yield Breach("bad-lambdas", ("recipe", "lambdas", place), f"the penalty {lam:g} is not above 0", "write a positive number")
    if not recipe.lambdas or len(recipe.lambdas) > CANDIDATES_MAX or len(set(recipe.lambdas)) < len(recipe.lambdas):
        what = f"lambdas has {len(recipe.lambdas)} penalties, or one twice"
        yield Breach("bad-lambdas", ("recipe", "lambdas"), what, f"name 1 to {CANDIDATES_MAX}, each once")
    yield from _head_breaches(recipe)
    yield from _privacy_breaches(recipe, interface)
    if recipe.records_per_feature < AGGREGATE_RATIO_MIN:
        what = f"records_per_feature is {recipe.records_per_feature}; no node agrees to fewer than {AGGREGATE_RATIO_MIN}"
        yield Breach("out-of-range", ("recipe", "records_per_feature"), what, f"write {AGGREGATE_RATIO_MIN} or more")
    yield from _tree_breaches(recipe, interface)


def _tree_breaches(recipe: Recipe, interface: Interface | None) -> Iterator[Breach]:
    """Trees grow on rows and windows, by settings that can be used."""
    if recipe.head != "trees":
        if recipe.trees is not None:
            what = f"trees says how trees are grown, and head is {recipe.head}"
            yield Breach("bad-trees", ("recipe", "trees"), what, "write head: trees, or leave trees out")
        return
    if interface is not None and interface.input == "image":
        what = "trees are grown on rows of tables or series, and the input is image"
        yield Breach("bad-trees", ("recipe", "head"), what, "leave head out, so that it is ridge")
    wanted = recipe.trees or Trees()
    limits: tuple[tuple[str, float, float, str], ...] = (
        ("trees", 1, TREES_MAX, "whole trees"),
        ("depth", 1, DEPTH_MAX, "levels"),
        ("rate", 0.01, 1, "a share"),
        ("l2", 0, 1000, "a penalty"),
        ("features", 1, TREE_FEATURES_MAX, "features that a tree may ask"),
        ("cuts", 1, TREE_CUTS_MAX, "cuts of each"),
        ("aside", ASIDE_MIN, ASIDE_MAX, "one group in so many"),
    )
    for name, least, most, unit in limits:
        value = getattr(wanted, name)
        if not (math.isfinite(value) and least <= value <= most):
            yield Breach("bad-trees", ("recipe", "trees", name), f"{name} is {value:g}", f"write {least:g} to {most:g}, {unit}")
    if wanted.trees * wanted.depth > ROUNDS_MAX:
        what = f"{wanted.trees} trees of {wanted.depth} levels are {wanted.trees * wanted.depth} rounds"
        yield Breach("bad-trees", ("recipe", "trees"), what, f"use fewer or smaller ones: at most {ROUNDS_MAX} rounds")
    asked = wanted.features * wanted.cuts * recipe.records_per_feature
    if asked > OWNER_RECORDS_MAX:
        what = f"{wanted.features} features with {wanted.cuts} cuts need {asked} records in every node of a tree"
        yield Breach("bad-trees", ("recipe", "trees"), what, f"use fewer, so that it is at most {OWNER_RECORDS_MAX}")


def _weigh_breaches(recipe: Recipe, interface: Interface | None) -> Iterator[Breach]:
    if recipe.weigh is msgspec.UNSET or interface is None:
        return
    if interface.output != "value" or interface.schema is None:
        yield Breach("bad-weigh", ("recipe", "weigh"), "records are weighed by a column only where numbers are foretold", "leave weigh out")
        return
    try:
        checked_weighing(recipe.weigh, interface.schema)
    except InputError as error:
        yield Breach("bad-weigh", ("recipe", "weigh"), error.message, error.next_step)


def _head_breaches(recipe: Recipe) -> Iterator[Breach]:
    """Patches need a head that looks at each; a Gaussian's lambdas are shrinkages."""
    try:
        patches = of_patches(recipe.parts)
    except InputError:  # told for the parts themselves
        patches = False
    if patches and recipe.head != "gaussian":
        what = f"the parts describe patches, and a head {recipe.head} looks at pictures as a whole"
        yield Breach("bad-head", ("recipe", "head"), what, "write gaussian, or take parts of pictures")
    if recipe.head == "gaussian":
        for place, lam in enumerate(recipe.lambdas):
            if lam > 1:
                what = f"the shrinkage {lam:g} is above 1"
                yield Breach("bad-lambdas", ("recipe", "lambdas", place), what, "with head gaussian write numbers above 0, at most 1")


def _privacy_breaches(recipe: Recipe, interface: Interface | None) -> Iterator[Breach]:
    """Noisy sums give a ridge head of verdicts, of records that all weigh the same."""
    wanted = recipe.privacy
    if wanted is None:
        return
    if recipe.head != "ridge" or (interface is not None and interface.output == "value"):
        yield Breach("bad-head", ("recipe", "privacy"), "noisy sums give a ridge head of verdicts only", "leave privacy out")
    if recipe.sure_weight != recipe.unsure_weight or recipe.drawn_weight:
        yield Breach(
            "out-of-range", ("recipe", "privacy"), "under noise all records weigh the same", "use one weight, and no drawn defects"
        )
    grouped = wanted.unit == "group" or wanted.unit_records_max == 1
    if not (0 < wanted.epsilon <= 100 and 0 < wanted.delta <= 0.01 and 0 < wanted.norm <= 1 and wanted.penalty > 0 and grouped):
        what = "privacy has an epsilon, delta, norm, penalty or unit that is none"
        yield Breach("out-of-range", ("recipe", "privacy"), what, "epsilon up to 100, delta up to 0.01, norm up to 1")


def _promise_breaches(scenario: Scenario) -> Iterator[Breach]:
    """A bound on false alarms takes thresholds from good records, and something that shows the model is not blind."""
    certify = scenario.certify
    if certify.promise != "alarms":
        if SCRATCH in certify.families:
            what = "a scratch is a drawn defect, so a model that sees it would count as wrong"
            yield Breach("unknown-family", ("certify", "families"), what, f"leave {SCRATCH} out, or write promise: alarms")
        return
    if scenario.recipe.head != "gaussian":
        what = f"the promise is on alarms, and a head {scenario.recipe.head} is fitted on labelled defects"
        yield Breach("bad-promise", ("certify", "promise"), what, "write head: gaussian in recipe, or promise: error")


def _augmentation_breaches(recipe: Recipe, interface: Interface | None) -> Iterator[Breach]:
    """Each family once, known for such records, at known severities, no more rows of a record than a node makes, for a head that is made of
    such rows."""
    numbers = interface is not None and interface.output == "value"
    if recipe.augmentations and (numbers or recipe.head not in ("ridge", "logistic")):
        what = f"{'a model of numbers' if numbers else f'a head {recipe.head}'} learns from records as they are"
        yield Breach("bad-augmentations", ("recipe", "augmentations"), what, "leave augmentations out, or let head be ridge or logistic")
    families = tuple(one.family for one in recipe.augmentations)
    yield from _family_breaches(("recipe", "augmentations"), families, interface)
    for place, one in enumerate(recipe.augmentations):
        at: Steps = ("recipe", "augmentations", place, "severities")
        if not one.severities or set(one.severities) - set(SEVERITIES) or len(set(one.severities)) < len(one.severities):
            what = f"the severities {list(one.severities)} of {one.family} are not some of 1 to {len(SEVERITIES)}, each once"
            yield Breach("bad-augmentations", at, what, "write the severities to learn from, such as [1, 2]")
    rows = sum(len(one.severities) for one in recipe.augmentations)
    if rows > AUGMENTATIONS_MAX:
        what = f"the augmentations make {rows} more rows of each record, more than {AUGMENTATIONS_MAX}"
        yield Breach("bad-augmentations", ("recipe", "augmentations"), what, "each costs as much as one more view: name fewer")


def _part_breaches(name: str, parts: tuple[str, ...]) -> Iterator[Breach]:
    wrong = False
    for place, text in enumerate(parts):
        try:
            parsed_part(text)
        except InputError as error:
            wrong = True
            yield Breach("unknown-part", ("recipe", name, place), error.message, error.next_step)
    try:
        if not wrong:
            checked_parts(parts)
    except InputError as error:
        yield Breach("bad-parts", ("recipe", name), f"{name}: {error.message}", error.next_step)


def certify_breaches(certify: Certify, interface: Interface | None = None) -> Iterator[Breach]:
    """The bars can be judged and refuse every model that ignores its input; see assurance.bars.checked_bars."""

    def at(name: str, *more: int) -> Steps:
        return ("certify", name, *more)

    promises = certify.promises_ppm
    for place, ppm in enumerate(promises):
        if not 0 < ppm < PPM:
            yield Breach("out-of-range", at("promises_ppm", place), f"the promise {ppm} is no share", "parts per million; 5 % is 50000")
    if not promises or list(promises) != sorted(set(promises), reverse=True):
        yield Breach(
            "bad-promises", at("promises_ppm"), f"the promises {list(promises)} are no ladder", "begin with the easiest: descending"
        )
    if not PPM // 2 <= certify.confidence_ppm < PPM:
        meant = certify.confidence_ppm * PPM // 100 if 50 <= certify.confidence_ppm < 100 else 950_000
        what = f"confidence_ppm is {certify.confidence_ppm}; it must be at least 500000 and below 1000000"
        yield Breach("out-of-range", at("confidence_ppm"), what, f"parts per million: write {meant}")
    for name in ("answered_ppm_min", "recall_ppm_min", "specificity_ppm_min", "auc_ppm_min"):
        if not 0 < getattr(certify, name) < PPM:
            yield Breach("out-of-range", at(name), f"{name} is {getattr(certify, name)}", "parts per million: between 0 and 1000000")
    if certify.recall_ppm_min + certify.specificity_ppm_min <= PPM:
        total = certify.recall_ppm_min + certify.specificity_ppm_min
        what = f"recall_ppm_min and specificity_ppm_min add up to {total}: a model that ignores its input would pass"
        yield Breach("blind-bars", at("recall_ppm_min"), what, "ask for two that add up to more than 1000000")
    if certify.auc_ppm_min < PPM // 2:
        yield Breach("blind-bars", at("auc_ppm_min"), f"auc_ppm_min is {certify.auc_ppm_min}: a coin passes", "write 500000 or more")
    yield from _value_bar_breaches(certify, interface)
    yield from _least(certify, "certify", {"groups_min": 2, "slice_records_min": 1})
    yield from _condition_breaches("certify", certify.families, certify.severities, interface)
    if not (math.isfinite(certify.planning_design_effect) and certify.planning_design_effect >= 1):
        what = f"planning_design_effect is {certify.planning_design_effect:g}; groups never make records count for more than they are"
        yield Breach("out-of-range", at("planning_design_effect"), what, "write 1 or more")
    if not 0 < certify.planning_power < 1:
        what = f"planning_power is {certify.planning_power:g}; it is a chance"
        yield Breach("out-of-range", at("planning_power"), what, "write a number between 0 and 1, such as 0.8")
    if not 1 <= certify.validity_days <= VALIDITY_DAYS_MAX:
        what = f"validity_days is {certify.validity_days}; a certificate lasts 1 to {VALIDITY_DAYS_MAX} days"
        yield Breach("out-of-range", at("validity_days"), what, f"write 1 to {VALIDITY_DAYS_MAX}, in days")


def _value_bar_breaches(certify: Certify, interface: Interface | None) -> Iterator[Breach]:
    """Bars of numbers, just where numbers are foretold."""
    values, numbers = certify.values, interface is not None and interface.output == "value"
    if isinstance(values, msgspec.UnsetType):
        if numbers:
            hint = "add values: {skill_ppm_min: 0, width_ppm_max: 600000}, say"
            yield Breach("bad-value-bars", ("certify",), "certify has no field values, the bars of numbers", hint)
        return
    if interface is not None and not numbers:
        yield Breach("bad-value-bars", ("certify", "values"), "values are bars of numbers, and the output is a verdict", "leave them out")
    if not 0 <= values.skill_ppm_min < PPM:
        what = f"skill_ppm_min is {values.skill_ppm_min}"
        yield Breach(
            "out-of-range", ("certify", "values", "skill_ppm_min"), what, "parts per million: 0 to 999999; 0 asks to beat the naive"
        )
    if not 0 < values.width_ppm_max <= PPM:
        what = f"width_ppm_max is {values.width_ppm_max}"
        yield Breach("out-of-range", ("certify", "values", "width_ppm_max"), what, "parts per million of the range: 1 to 1000000")


def _condition_breaches(
    section: str, families: tuple[str, ...], severities: tuple[int, ...], interface: Interface | None
) -> Iterator[Breach]:
    """Corruptions that are known for such records, and severities that count up from the mildest."""
    yield from _family_breaches((section, "families"), families, interface)
    if list(severities) != list(range(1, len(severities) + 1)) or len(severities) > len(SEVERITIES):
        what = f"the severities {list(severities)} do not count from 1 to at most {len(SEVERITIES)}"
        hint = "write 1, 2, 3 and so on: a severity counts only when all milder ones hold"
        yield Breach("bad-severities", (section, "severities"), what, hint)


def _family_breaches(at: Steps, families: tuple[str, ...], interface: Interface | None) -> Iterator[Breach]:
    """Corruptions that are known for such records, each once. interface: None where it is not known what the records are."""
    schema = None if interface is None else interface.schema
    known = families_of(schema) if interface else tuple(dict.fromkeys((*FAMILIES, SCRATCH, *RECORD_FAMILIES, *TEXT_FAMILIES)))
    for place, family in enumerate(families):
        if family not in known:
            what = f"no corruption is called {family!r}"
            yield Breach("unknown-family", (*at, place), what, f"use {', '.join(known)}")
    if schema is not None and "missing" in families and not any(column.missing for column in schema.columns):
        what = "the corruption missing is asked for, and no column may be missing"
        yield Breach("unknown-family", at, what, "leave it out, or declare a column that may be missing")
    if len(set(families)) < len(families):
        yield Breach("unknown-family", at, "a corruption is named twice", "name each once")


def serve_breaches(serve: Serve, interface: Interface | None = None) -> Iterator[Breach]:
    """A currency, an exact price, and shares of the whole charge."""
    if not CURRENCY.fullmatch(serve.currency):
        what = f"currency {serve.currency!r} is no currency code"
        yield Breach("bad-currency", ("serve", "currency"), what, "write three capitals, such as EUR")
    if not 0 <= serve.micros_per_inference <= AMOUNT_MAX:
        what = f"micros_per_inference is {serve.micros_per_inference}"
        yield Breach("out-of-range", ("serve", "micros_per_inference"), what, "write micro-units, 0 to 2^53 - 1; 0.002 EUR is 2000")
    for name in SHARES:
        if not 0 <= getattr(serve, name) <= PPM:
            yield Breach("out-of-range", ("serve", name), f"{name} is {getattr(serve, name)}", "parts per million: 0 to 1000000")
    total = sum(getattr(serve, name) for name in SHARES)
    if total != PPM:
        hint = "parts per million: 30 % is 300000" if total <= SMALL_PPM else f"change one of them by {PPM - total:+d}"
        what = f"{', '.join(SHARES)} add up to {total}; the shares of a charge add up to 1000000"
        yield Breach("shares-do-not-sum", ("serve", SHARES[0]), what, hint)
    yield from _least(serve, "serve", {"sample_requests": 1})
    wrong = [name for name in serve.models_to if not is_slug(name)]
    if wrong or (serve.residency is not msgspec.UNSET and not serve.residency):
        what = f"residency names {wrong[0]!r}" if wrong else "residency names nothing"
        yield Breach("bad-residency", ("serve", "residency"), what, "write jurisdictions such as de or eu, or leave residency out")


def replicate_breaches(replicate: Replicate, interface: Interface | None = None) -> Iterator[Breach]:
    """Samples enough to draw, weights that the combiner takes, and conditions that can be measured."""
    yield from _least(replicate, "replicate", {"samples_default": FIT_MIN})
    for place, weight in enumerate(replicate.weightings):
        if not WEIGHTING_LEAST_ABOVE < weight <= WEIGHTING_MOST:
            what = f"the weighting {weight:g} cannot be used"
            yield Breach("bad-weightings", ("replicate", "weightings", place), what, f"write 0.0625 to {WEIGHTING_MOST}")
    if not replicate.weightings:
        yield Breach("bad-weightings", ("replicate", "weightings"), "no weighting is named", f"write 0.0625 to {WEIGHTING_MOST}")
    yield from _condition_breaches("replicate", replicate.families or (), replicate.severities or (), interface)


def _least(part: Any, section: str, least: dict[str, int]) -> Iterator[Breach]:
    for name, bound in least.items():
        if getattr(part, name) < bound:
            yield Breach("out-of-range", (section, name), f"{name} is {getattr(part, name)}", f"write {bound} or more")


def small_shares(sections: dict[str, Any]) -> Iterator[Breach]:
    """Shares so small that a percentage was probably meant. sections: name -> part of the manifest as it was read."""
    for section, part in sections.items():
        for name, value in part.items() if isinstance(part, dict) else ():
            for place, one in enumerate(value) if isinstance(value, list) else ((-1, value),):
                if "_ppm" in name and isinstance(one, int) and not isinstance(one, bool) and 0 < one <= SMALL_PPM:
                    steps: Steps = (section, name) if place < 0 else (section, name, place)
                    what = f"{name} is {one} parts per million, which is {one / 10_000:g} %"
                    yield Breach("small-share", steps, what, f"if {one} % is meant, write {one * 10_000}", "warning")


SECTIONS: dict[str, Callable[[Any, Interface | None], Iterator[Breach]]] = {
    "recipe": recipe_breaches,
    "certify": certify_breaches,
    "serve": serve_breaches,
    "replicate": replicate_breaches,
}


def breaches(scenario: Scenario) -> list[Breach]:
    """Every rule that a manifest breaks, warnings left out."""
    fields = {name: getattr(scenario, name) for name in scenario.__struct_fields__}
    found = list(identity_breaches(fields))
    for name, rule in SECTIONS.items():
        found += rule(fields[name], scenario.interface)
    return [*found, *_promise_breaches(scenario)]
