"""The worker behind sandbox.duckrows: `python -m isthmus.sandbox.duckworker MEMORY_MB`, frames in, frames out, until its input ends."""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

import duckdb
import numpy as np

from isthmus.sandbox.duckrows import CPU_S_MAX, OVERHEAD_MB, Arrays, framed, read_frame

SETTINGS = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "max_temp_directory_size": "0KiB",
    "threads": "1",
}


def opened(memory_mb: int) -> duckdb.DuckDBPyConnection:
    """A database in memory that reaches no file, network or extension, and whose settings nobody can change any more."""
    found = duckdb.connect(":memory:", config={**SETTINGS, "memory_limit": f"{memory_mb}MB"})
    found.execute("SET lock_configuration = true")
    return found


def answered(database: duckdb.DuckDBPyConnection, given: Arrays) -> Arrays:
    """Registers the tables of a frame and runs its statements."""
    statements = json.loads(given.pop("statements").tobytes())
    tables: dict[str, dict[str, Any]] = {}
    for name, values in given.items():
        table, _, column = name.partition(".")
        tables.setdefault(table, {})[column] = values
    for table, columns in tables.items():
        database.register(table, columns)
    found: Arrays = {}
    for number, (text, parameters) in enumerate(statements):
        for column, values in database.execute(text, parameters).fetchnumpy().items():
            found[f"{number}.{column}"] = np.asarray(values)
    return found


def main(memory_mb: int) -> int:
    limit = (memory_mb + OVERHEAD_MB) * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S_MAX, CPU_S_MAX))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    database = opened(memory_mb)
    while (given := read_frame(sys.stdin.buffer)) is not None:
        try:
            answer = answered(database, given)
        except (duckdb.Error, MemoryError, ValueError) as error:
            answer = {"error": np.frombuffer(str(error)[:2000].encode(), dtype=np.uint8)}
        sys.stdout.buffer.write(framed(answer))
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
