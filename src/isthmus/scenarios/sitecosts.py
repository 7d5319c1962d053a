"""A site's own figures, as people write them (a YAML file, options), made into integers; nothing is assumed for what is missing."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml

from isthmus.assurance.worth import checked_costs
from isthmus.contracts.errors import InputError
from isthmus.contracts.worth import SiteCosts

COSTS_BYTES_MAX = 65_536


@dataclass(frozen=True)
class Figure:
    """One figure. field: of SiteCosts. times: what one of the written unit is in the field's unit; 0 for words. says: one clause."""

    field: str
    times: int
    example: str
    says: str


FIGURES: dict[str, Figure] = {
    "currency": Figure("currency", 0, "EUR", "three capital letters"),
    "parts_per_day": Figure("parts_per_day", 1, "20000", "parts made a day"),
    "defect_share": Figure("defect_ppm", 1_000_000, "2 %", "share of parts that are defect"),
    "mix": Figure("mix", 0, "as-certified", "as-certified when good and defect are mixed as in the certified pictures, else other"),
    "inspected_share": Figure("inspected_ppm", 1_000_000, "100 %", "share of parts that a person looks at today"),
    "missed_share": Figure("missed_ppm", 1_000_000, "15 %", "share of the defects before a person's eyes that are let through"),
    "person_alarm_share": Figure("person_alarm_ppm", 1_000_000, "1 %", "share of the good parts before a person's eyes that are refused"),
    "minutes_per_inspection": Figure("inspection_ms", 60_000, "0.25", "a person's minutes for one part"),
    "escape_cost": Figure("escape_micros", 1_000_000, "40.00", "cost of one defect that leaves as good"),
    "false_alarm_cost": Figure("false_alarm_micros", 1_000_000, "1.50", "cost of one good part that is refused"),
    "minute_cost": Figure("minute_micros", 1_000_000, "0.60", "cost of one minute of a person's inspection"),
    "inference_price": Figure("inference_micros", 1_000_000, "0.002", "price of one inference"),
    "fixed_cost_per_day": Figure("fixed_micros_per_day", 1_000_000, "25", "other costs of the model a day; 0 if none"),
    "setup_cost": Figure("setup_micros", 1_000_000, "6000", "cost of setting it up once; 0 if none"),
}
ANSWERED = Figure("answered_ppm", 1_000_000, "45 %", "share of parts that the model answers at the site; only with mix: other")
KNOWN = {**FIGURES, "answered_share": ANSWERED}


def example() -> str:
    """A file to fill in."""
    return "".join(f"{f'{name}: {figure.example}':32}# {figure.says}\n" for name, figure in FIGURES.items())


def read_costs(path: Path | None, options: Mapping[str, str | None]) -> SiteCosts:
    """The figures of a file, options laid over them. Raises InputError: unknown names, values that cannot be, or all that is missing."""
    given = {} if path is None else _from_file(path)
    given |= {name: value for name, value in options.items() if value is not None}
    missing = [name for name in FIGURES if given.get(name) is None]
    if missing:
        shown = ", ".join(f"{name}: {FIGURES[name].example}" for name in missing)
        raise InputError(
            f"figures of the site are missing, and none is assumed: {', '.join(missing)}",
            f"add them to the file of --costs, one a line, or as options; for example {shown}; isthmus worth --example prints a whole file",
        )
    values = {KNOWN[name].field: _value(name, KNOWN[name], value) for name, value in given.items() if value is not None}
    return checked_costs(SiteCosts(**values))


def _from_file(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
        if len(raw) > COSTS_BYTES_MAX:
            raise InputError(f"{path} has more than {COSTS_BYTES_MAX} bytes", "give a short YAML file of figures")
        found = yaml.load(raw, Loader=yaml.BaseLoader)  # plain text only: 0.002 stays as it was written
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {str(error).splitlines()[0]}", "write one `name: value` a line") from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise InputError(f"{path} is not a list of `name: value` lines", "isthmus worth --example prints one")
    for name in found:
        if name not in KNOWN:
            near = difflib.get_close_matches(str(name), KNOWN, n=1)
            raise InputError(f"{path} has {name!r}, which is no figure", f"did you mean {near[0]}?" if near else f"use {', '.join(KNOWN)}")
    return {name: value or None for name, value in found.items()}


def _value(name: str, figure: Figure, text: str) -> Any:
    """A written figure in the field's unit; only exact ones are taken."""
    if not figure.times:
        if name == "mix" and text not in ("as-certified", "other"):
            raise InputError(f"mix is {text!r}", "use as-certified or other")
        return text
    bare = text.strip().removesuffix("%").strip()
    try:
        number = Decimal(bare.replace("_", ""))
    except InvalidOperation as error:
        raise InputError(f"{name} is {text!r}, which is no number", f"write it like {figure.example}") from error
    if text.strip().endswith("%"):
        if not name.endswith("_share"):
            raise InputError(f"{name} is {text!r}, but it is no share", f"write it like {figure.example}")
        number /= 100
    if not number.is_finite() or abs(number) > 10**12:
        raise InputError(f"{name} is {text!r}", f"write it like {figure.example}")
    scaled = number * figure.times
    if scaled != scaled.to_integral_value():
        raise InputError(f"{name} is {text!r}, which is finer than one {figure.times}th", f"write it like {figure.example}")
    if scaled < 0 or (name.endswith("_share") and scaled > figure.times):
        raise InputError(f"{name} is {text!r}", "shares lie between 0 % and 100 %, and nothing here is below 0")
    return int(scaled)
