"""Settings: environment before file before default; what is misspelt or out of range is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.contracts.errors import SettingError
from isthmus.kit.config import Settings, process_environment, read_settings, trace_wanted


def test_defaults(tmp_path: Path) -> None:
    assert read_settings({}, tmp_path) == Settings(state=tmp_path)
    assert read_settings({"PATH": "x"}, None).state == Path("isthmus-state")


def test_environment_comes_before_file_and_file_before_default(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('port = 9001\nhost = "::1"\ntrace = true\n', encoding="utf-8")
    read = read_settings({"ISTHMUS_STATE": str(tmp_path), "ISTHMUS_PORT": "9002"})
    assert (read.port, read.host, read.trace, read.state, read.log_level) == (9002, "::1", True, tmp_path, "info")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "80.5"),
        ("PORT", ""),
        ("PORT", "x"),
        ("LOG_LEVEL", "loud"),
        ("TRACE", "maybe"),
        ("HOST", ""),
    ],
)
def test_values_that_cannot_be_are_refused(variable: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=f"ISTHMUS_{variable}") as caught:
        read_settings({f"ISTHMUS_{variable}": value}, tmp_path)
    assert caught.value.next_step


def test_a_misspelt_name_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as caught:
        read_settings({"ISTHMUS_PROT": "1"}, tmp_path)
    assert caught.value.next_step == "did you mean ISTHMUS_PORT?"


@pytest.mark.parametrize(
    "text", ["prot = 1", 'state = "elsewhere"', "port = 'x'", "port = true", "port = 1.5", "host = 5", "port = ", "\x00"]
)
def test_a_file_that_cannot_be_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(text, encoding="utf-8")
    with pytest.raises(SettingError):
        read_settings({}, tmp_path)


@pytest.mark.parametrize(("value", "wanted"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_trace_is_read_even_when_the_rest_is_wrong(value: str, wanted: bool) -> None:
    assert trace_wanted({"ISTHMUS_TRACE": value, "ISTHMUS_PROT": "1"}) is wanted


def test_a_child_process_gets_this_environment_and_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_HOST", "::1")
    child = process_environment(ISTHMUS_PORT="9")
    assert (child["ISTHMUS_HOST"], child["ISTHMUS_PORT"]) == ("::1", "9")
