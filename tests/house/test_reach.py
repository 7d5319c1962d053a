"""Who may reach what: the environment, the terminal, the network, SQL, other modules."""

from __future__ import annotations

import ast
import re

from tests.house.source import SourceFile, against, dotted, functions, source_files

CONFIG = "src/isthmus/kit/config.py"
READS_ENVIRONMENT = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv", "os.unsetenv"}
BROAD = {"Exception", "BaseException"}
CONTRACTS_MAY_IMPORT = {
    "__future__",
    "base64",
    "binascii",
    "collections",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "hashlib",
    "json",
    "fractions",
    "functools",
    "isthmus",
    "itertools",
    "math",
    "msgspec",
    "numpy",
    "re",
    "types",
    "typing",
    "unicodedata",
}
SQL = re.compile(
    r"^\s*(SELECT\s.+\sFROM|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+(TABLE|INDEX|TRIGGER|VIEW))\s", re.S
)


BY_NAME = {"importlib.import_module", "import_module", "pkgutil.resolve_name", "resolve_name", "__import__"}


def calls(file: SourceFile) -> list[str]:
    return [dotted(node.func) for node in ast.walk(file.tree) if isinstance(node, ast.Call)]


def test_only_config_reads_the_environment() -> None:
    guilty = {
        file.name
        for file in source_files()
        if file.name != CONFIG
        and (
            any(isinstance(n, ast.Attribute) and dotted(n) in READS_ENVIRONMENT for n in ast.walk(file.tree))
            or any(
                isinstance(n, ast.ImportFrom) and n.module == "os" and {a.name for a in n.names} & {"environ", "getenv"}
                for n in ast.walk(file.tree)
            )
        )
    }
    assert not guilty, f"use kit/config.py: {guilty}"


def _broad_excepts(file: SourceFile) -> set[str]:
    found: set[str] = set()
    for name, node in functions(file):
        for inner in ast.walk(node):
            if isinstance(inner, ast.ExceptHandler) and _is_broad(inner) and not _raises_again(inner):
                found.add(f"{file.name}:{name}")
    return found


def _is_broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(dotted(kind) in BROAD for kind in kinds)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    """A handler that cleans up and lets the exception go on swallows nothing."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def test_broad_excepts_stand_at_listed_edges() -> None:
    found = {place for file in source_files() for place in _broad_excepts(file)}
    assert not (wrong := against("broad-except", found)), wrong


def test_imports_inside_functions_are_listed() -> None:
    found: set[str] = set()
    for file in source_files():
        for name, node in functions(file):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Import):
                    found |= {f"{file.name}:{name}:{alias.name.split('.')[0]}" for alias in inner.names}
                elif isinstance(inner, ast.ImportFrom):
                    found.add(f"{file.name}:{name}:{(inner.module or '.').split('.')[0]}")
    assert not (wrong := against("local-import", found)), wrong


def test_modules_are_found_by_name_only_at_the_command_line() -> None:
    guilty = {f.name for f in source_files() if not f.name.startswith("src/isthmus/cli/") and BY_NAME & set(calls(f))}
    assert not guilty, guilty


def test_only_the_command_line_prints() -> None:
    guilty = {f.name for f in source_files() if not f.name.startswith("src/isthmus/cli/") and "print" in calls(f)}
    assert not guilty, guilty


def test_contracts_do_no_input_or_output() -> None:
    guilty: set[str] = set()
    for file in source_files():
        if not file.name.startswith("src/isthmus/contracts/"):
            continue
        for node in ast.walk(file.tree):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            guilty |= {f"{file.name} imports {name}" for name in names if name.split(".")[0] not in CONTRACTS_MAY_IMPORT}
        guilty |= {f"{file.name} calls {call}" for call in calls(file) if call in {"open", "print", "input"}}
    assert not guilty, guilty


def test_sql_stands_in_sql_files() -> None:
    guilty = {
        f"{file.name}:{node.lineno}"
        for file in source_files()
        for node in ast.walk(file.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.match(node.value)
    }
    assert not guilty, f"move it into a named .sql file: {guilty}"


def test_clock_and_randomness_are_asked_for() -> None:
    """Wall time comes from kit/clock.py; seeds are given. The system's generator (os.urandom, secrets) is for secrets."""
    refused = {
        "time.time",
        "time.time_ns",
        "datetime.now",
        "datetime.datetime.now",
        "datetime.utcnow",
        "datetime.datetime.utcnow",
        "random.random",
        "random.seed",
        "np.random.seed",
        "numpy.random.seed",
        "np.random.rand",
        "np.random.randn",
    }
    guilty = {f"{f.name}: {call}" for f in source_files() if f.name != "src/isthmus/kit/clock.py" for call in calls(f) if call in refused}
    unseeded = {
        f"{f.name}:{n.lineno}: default_rng without a seed"
        for f in source_files()
        for n in ast.walk(f.tree)
        if isinstance(n, ast.Call) and dotted(n.func).endswith("default_rng") and not n.args and not n.keywords
    }
    assert not guilty | unseeded, guilty | unseeded
