"""Settings: the one place that reads the environment.

A setting comes from the environment (`ISTHMUS_` and its name in capitals), else from `settings.toml` in the state folder,
else it has its default. An unknown name is refused, because a misspelt limit would be no limit.
`docs/reference/settings.md` is written from this file.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from isthmus.contracts.errors import SettingError

PREFIX = "ISTHMUS_"
FILE_NAME = "settings.toml"


def _setting(
    default: Any, unit: str, sentence: str, *, least: int | None = None, most: int | None = None, choices: tuple[str, ...] = ()
) -> Any:
    metadata = {"unit": unit, "sentence": sentence, "least": least, "most": most, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """All settings of a process, checked."""

    state: Path = _setting(Path("isthmus-state"), "folder", "Where the exchange keeps its books, keys, models and logs.")  # noqa: RUF009
    host: str = _setting("127.0.0.1", "address", "The address that the exchange listens on; the default answers this machine only.")
    port: int = _setting(8470, "TCP port", "The port that the exchange listens on.", least=1, most=65535)
    job_ttl_s: int = _setting(
        1800, "seconds", "How long owners have for one job of a run; then it fails and may be asked anew.", least=5, most=604_800
    )
    registration: str = _setting(
        "open",
        "open or invited",
        "Who may register as a party: anybody that can call, or only who shows an invitation of the operator's.",
        choices=("open", "invited"),
    )
    silence_s: int = _setting(
        90,
        "seconds",
        "How long an owner's node may be silent when a run begins before the run goes on without it, where enough owners remain.",
        least=5,
        most=604_800,
    )
    engines_awake_max: int = _setting(
        16,
        "engines",
        "Model processes that run beside those in use, some 100 MB each; others sleep until a request wakes them.",
        least=1,
        most=1000,
    )
    jurisdiction: str = _setting(
        "",
        "slug",
        "Where this exchange keeps what it gets (de, eu), as it signs in every job; empty says nothing, and owners who ask refuse.",
    )
    deletion_days: int = _setting(
        30,
        "days",
        "After an owner's agreement has ended, sums and models that rest on it are deleted within so many days, as is signed in every job.",
        least=0,
        most=3650,
    )
    language: str = _setting("en", "language code", "The language of sentences meant for people; English where a sentence is missing.")
    log_level: str = _setting("info", "level", "The least level that is logged.", choices=("debug", "info", "warning", "error"))
    log_file: str = _setting("", "file", "Where the log goes, one JSON object a line; empty means standard error.")
    trace: bool = _setting(False, "0 or 1", "Shows the full trace of an unexpected failure; for reports of faults.")


@dataclass(frozen=True)
class SettingLine:
    """What the reference says about one setting."""

    name: str
    variable: str
    default: str
    unit: str
    sentence: str


def setting_lines() -> list[SettingLine]:
    """Every setting, in the order of `Settings`."""
    return [SettingLine(f.name, _variable(f.name), _shown(f.default), f.metadata["unit"], f.metadata["sentence"]) for f in fields(Settings)]


def read_settings(environ: Mapping[str, str] | None = None, state: Path | None = None) -> Settings:
    """The settings of this process.

    environ: variables to read instead of the process's own. state: the state folder, when an argument already named it.
    Raises SettingError: unknown name, wrong type, out of range, or a settings file that cannot be read.
    """
    variables = dict(os.environ if environ is None else environ)
    names = [f.name for f in fields(Settings)]
    known = {_variable(name): name for name in names}
    given: dict[str, tuple[Any, str]] = {}
    for variable, value in variables.items():
        if variable.startswith(PREFIX):
            if variable not in known:
                raise SettingError(f"the environment has {variable}, which is no setting", _nearest(variable, list(known)))
            given[known[variable]] = (value, variable)
    folder = state or Path(given["state"][0] if "state" in given else Settings.state)
    for name, value in _file_values(folder / FILE_NAME).items():
        if name == "state" or name not in names:
            raise SettingError(
                f"{folder / FILE_NAME} has {name!r}, which is no setting there", _nearest(name, [n for n in names if n != "state"])
            )
        given.setdefault(name, (value, f"{name} in {FILE_NAME}"))
    values = {f.name: _checked(f, *given[f.name]) for f in fields(Settings) if f.name in given}
    return Settings(**{**values, "state": folder})


def trace_wanted(environ: Mapping[str, str] | None = None) -> bool:
    """Whether ISTHMUS_TRACE asks for full traces; reads nothing else, so that it works when other settings are wrong."""
    return (os.environ if environ is None else environ).get(_variable("trace"), "").lower() in ("1", "true", "yes")


def package_cache() -> Path:
    """Where archives of sample data are kept between runs and state folders: under XDG_CACHE_HOME, else ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "isthmus" / "packages"


def process_environment(**extra: str) -> dict[str, str]:
    """A copy of this process's environment for a child process, with `extra` laid over it."""
    return {**os.environ, **extra}


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(int(default))
    return str(default) or "(empty)"


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else f"the settings are {', '.join(names)}"


def _file_values(path: Path) -> dict[str, Any]:
    try:
        if not path.exists():
            return {}
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError(f"the settings file {path} cannot be read: {error}", "mend it or remove it") from error


def _checked(of: Any, value: Any, where: str) -> Any:
    """The value as the field's type. Text is what the environment gives; a file gives typed values."""
    limits = of.metadata
    kind = type(of.default)
    if kind is bool:
        return _as_bool(value, where)
    if kind is int:
        return _as_int(value, where, limits["least"], limits["most"])
    if not isinstance(value, str):
        raise SettingError(f"{where} is {value!r}, which is not text", "put it in quotes")
    if limits["choices"] and value not in limits["choices"]:
        raise SettingError(f"{where} is {value!r}", f"use one of {', '.join(limits['choices'])}")
    if not value and of.default:
        raise SettingError(f"{where} is empty", f"give a value ({limits['unit']}), or leave it out for {of.default}")
    return value


def _as_bool(value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word in ("1", "true", "yes"):
        return True
    if word in ("", "0", "false", "no"):
        return False
    raise SettingError(f"{where} is {value!r}", "use 0 or 1")


def _as_int(value: Any, where: str, least: int, most: int) -> int:
    try:
        if isinstance(value, bool | float):
            raise ValueError
        number = int(value)
    except ValueError as error:
        raise SettingError(f"{where} is {value!r}, which is no whole number", f"use {least} to {most}") from error
    if not least <= number <= most:
        raise SettingError(f"{where} is {number}", f"use {least} to {most}")
    return number
