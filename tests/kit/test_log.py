"""The log: one JSON object a line, no secrets, and never in the way."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.contracts.errors import StorageError
from isthmus.kit.clock import SetClock
from isthmus.kit.log import HIDDEN, LibraryLog, Log, open_log


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def log_to(level: str = "info") -> tuple[Log, io.StringIO]:
    stream = io.StringIO()
    return Log(stream, SetClock(1_800_000_000.25), level), stream


def test_a_line() -> None:
    log, stream = log_to()
    log.bind(party="alpha").info("job-started", job="job_1", records=3)
    assert lines(stream) == [
        {"time": "2027-01-15T08:00:00.250Z", "level": "info", "event": "job-started", "party": "alpha", "job": "job_1", "records": 3}
    ]


def test_levels_below_are_not_written() -> None:
    log, stream = log_to("warning")
    log.debug("a")
    log.info("b")
    log.bind(x=1).warning("c")
    log.error("d")
    assert [line["event"] for line in lines(stream)] == ["c", "d"]


@pytest.mark.parametrize(
    "name",
    [
        "secret",
        "api_key",
        "apikey",
        "bearer_token",
        "token",
        "Authorization",
        "cookie",
        "password",
        "private_key",
        "seed",
        "signing_key",
        "mask",
    ],
)
def test_secrets_are_hidden_by_name_at_any_depth(name: str) -> None:
    log, stream = log_to()
    log.info("x", **{name: "s3cr3t"}, headers={name: "s3cr3t", "inner": [{name: ["s3cr3t"]}]})
    assert "s3cr3t" not in stream.getvalue() and HIDDEN in stream.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "Bearer s3cr3t",
        "header: bearer s3cr3t, more",
        "http://user:s3cr3t@host/path",
        "-----BEGIN PRIVATE KEY-----\ns3cr3t\n-----END PRIVATE KEY-----",
    ],
)
def test_secrets_are_hidden_by_look(text: str) -> None:
    log, stream = log_to()
    log.info("x", message=text, error=ValueError(text))
    assert "s3cr3t" not in stream.getvalue()


def test_what_is_public_stays() -> None:
    log, stream = log_to()
    log.info("x", key_id="ab12", public_key="cd34", tokens=17, token=17)
    assert {k: lines(stream)[0][k] for k in ("key_id", "public_key", "tokens", "token")} == {
        "key_id": "ab12",
        "public_key": "cd34",
        "tokens": 17,
        "token": 17,
    }


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=20),
        max_size=4,
    )
)
def test_any_fields_give_one_line_of_strict_json(fields: dict[str, Any]) -> None:
    log, stream = log_to()
    log.write("info", "x", fields)
    written = stream.getvalue()
    assert written.count("\n") == 1 and written.endswith("\n")
    json.loads(written, parse_constant=lambda constant: pytest.fail(constant))


def test_bytes_and_long_texts_are_cut() -> None:
    log, stream = log_to()
    log.info("x", body=b"private pixels", long="a" * 5000)
    assert lines(stream)[0]["body"] == "[14 bytes]" and len(lines(stream)[0]["long"]) < 2100


def test_a_stream_that_fails_does_not_stop_the_work() -> None:
    log, stream = log_to()
    stream.close()
    log.info("x")


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "isthmus.log"
    for event in ("a", "b"):
        open_log(str(path), io.StringIO(), SetClock(), "info").info(event)
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["a", "b"]
    with pytest.raises(StorageError):
        open_log(str(path / "below"), io.StringIO(), SetClock(), "info")


def test_libraries_log_through_it() -> None:
    log, stream = log_to()
    logger = logging.getLogger("isthmus-test-library")
    logger.addHandler(LibraryLog(log))
    logger.warning("slow %s", "Bearer abc")
    assert lines(stream)[0] | {"time": ""} == {
        "time": "",
        "level": "warning",
        "event": "library",
        "logger": "isthmus-test-library",
        "message": f"slow {HIDDEN}",
    }
