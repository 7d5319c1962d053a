"""A structured log: one JSON object a line, to standard error or a file. Secrets are never written.

A line has `time` (UTC, RFC 3339, milliseconds), `level`, `event` (a kebab-case name that stays the same) and fields.
"""

from __future__ import annotations

import datetime
import json
import logging
import math
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from isthmus.contracts.errors import StorageError
from isthmus.contracts.ports import Clock

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
VALUE_CHARS_MAX = 2_000
"""Characters of one value in a log line; the rest is counted."""

HIDDEN = "[secret]"
# Names whose text is never written. Names of public keys and counts of tokens are no secrets.
_SECRET_NAME = re.compile(
    r"secret|password|passphrase|authorization|cookie|private|seed|credential|bearer|(^|_)(api_?key|token|signing_key|mask)$", re.I
)
_SECRET_TEXT = re.compile(r"Bearer\s+\S+|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)", re.I)


class Log:
    """Writes lines to one stream. Lines of several threads do not mix. A stream that fails never stops the work.

    level: the least level written. fields: laid into every line.
    """

    def __init__(self, stream: TextIO, clock: Clock, level: str = "info", fields: Mapping[str, Any] | None = None) -> None:
        self._stream = stream
        self._clock = clock
        self._least = LEVELS[level]
        self._fields = dict(fields or {})
        self._lock = threading.Lock()

    def bind(self, **fields: Any) -> Log:
        """A log to the same stream whose lines also carry `fields`."""
        child = Log(self._stream, self._clock, "info", {**self._fields, **fields})
        child._least, child._lock = self._least, self._lock
        return child

    def debug(self, event: str, **fields: Any) -> None:
        self.write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self.write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self.write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self.write("error", event, fields)

    def write(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """One line, if level is high enough."""
        if LEVELS[level] < self._least:
            return
        shown = {name: shown_value(name, value) for name, value in {**self._fields, **fields}.items()}
        moment = datetime.datetime.fromtimestamp(self._clock.now_s(), datetime.UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": moment.replace("+00:00", "Z"), "level": level, "event": event, **shown}, ensure_ascii=False)
        with self._lock:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                return


def shown_value(name: str, value: Any) -> Any:
    """The value as it may be logged: secrets hidden, bytes as their number, long text cut, anything else as text."""
    if _SECRET_NAME.search(name) and not isinstance(value, bool | int | float | None):
        return HIDDEN
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if isinstance(value, Mapping):
        return {str(key): shown_value(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [shown_value(name, inner) for inner in value]
    text = _SECRET_TEXT.sub(HIDDEN, str(value))
    return text if len(text) <= VALUE_CHARS_MAX else text[:VALUE_CHARS_MAX] + f"[{len(text) - VALUE_CHARS_MAX} more]"


def open_log(file: str, stderr: TextIO, clock: Clock, level: str) -> Log:
    """The log of a process: appended to `file`, or to stderr when `file` is empty. Raises StorageError."""
    if not file:
        return Log(stderr, clock, level)
    path = Path(file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"the log file {path} cannot be opened: {error.strerror}", "check ISTHMUS_LOG_FILE") from error
    return Log(stream, clock, level)


class LibraryLog(logging.Handler):
    """Carries what libraries (uvicorn, httpx) say through `logging` into a Log, under the event `library`."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= 40 else "warning" if record.levelno >= 30 else "info" if record.levelno >= 20 else "debug"
        self._log.write(level, "library", {"logger": record.name, "message": record.getMessage()})
