"""Runs a package's hook where its caller sits: in a process of its own, with a time limit, and never beside data.

One hook is called in this release: `action(verdict: str, score: float) -> str`, which says what a site does with an answer. The process has
no environment, an empty working folder and, where the system can, a limit of memory. That keeps mistakes in; it is no prison for malice.
Who calls a hook runs its publisher's code as themselves, so it is called only when it was asked for.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from isthmus.contracts.errors import InputError, PackageError
from isthmus.scenarios.contents import HOOKS, Contents
from isthmus.scenarios.hooks import hook_faults

ACTION = "action"
TIMEOUT_S = 10.0
"""For all calls of one command together, start of the process included."""
TEXT_CHARS_MAX = 200
"""What a hook may say of one answer."""
MEMORY_BYTES_MAX = 1 << 30
_TYPES = (("str", "float"), "str")
_CHILD = """
import json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except (ImportError, ValueError, OSError):
    pass
given = json.load(sys.stdin)
space = {"__name__": "hooks"}
exec(compile(given["source"], "hooks.py", "exec"), space)
out, sys.stdout = sys.stdout, sys.stderr
json.dump([space[given["name"]](*call) for call in given["calls"]], out)
""".replace("MEMORY", str(MEMORY_BYTES_MAX))


def action_of(contents: Contents) -> bytes:
    """The source of a package's hooks, if it has an `action` of the right types. Raises PackageError."""
    if HOOKS not in contents:
        raise PackageError(f"the package has no {HOOKS}", f"write one with {ACTION}(verdict: str, score: float) -> str")
    raw = contents[HOOKS]
    wrong = next(hook_faults(raw), None)
    if wrong is not None:
        raise PackageError(f"{wrong.place}: {wrong.what}", wrong.next)
    for node in ast.parse(raw).body:
        if isinstance(node, ast.FunctionDef) and node.name == ACTION:
            given = node.args
            plain = not (given.vararg or given.kwarg or given.kwonlyargs or given.defaults)
            types = tuple(ast.unparse(arg.annotation) for arg in (*given.posonlyargs, *given.args) if arg.annotation is not None)
            if plain and (types, ast.unparse(node.returns) if node.returns else "") == _TYPES:
                return raw
    raise PackageError(f"{HOOKS} has no {ACTION} of the types that are called", f"write {ACTION}(verdict: str, score: float) -> str")


def actions(source: bytes, answers: Sequence[tuple[str, float]]) -> list[str]:
    """What the hook says of each answer (verdict, score). Raises PackageError: it failed, took too long, or said no short text."""
    order = json.dumps({"source": source.decode("utf-8", "replace"), "name": ACTION, "calls": [list(one) for one in answers]})
    with tempfile.TemporaryDirectory(prefix="isthmus-hook-") as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", _CHILD],
                input=order,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                cwd=folder,
                env={},
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise PackageError(f"{HOOKS} took more than {TIMEOUT_S:g} s", "the verdicts stand; ask without --hooks") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:TEXT_CHARS_MAX]
        raise PackageError(f"{HOOKS} failed: {last}", "the verdicts stand; ask without --hooks")
    try:
        found = json.loads(done.stdout)
    except ValueError as error:
        raise PackageError(f"{HOOKS} gave no answer that can be read", "return text") from error
    if not isinstance(found, list) or len(found) != len(answers) or not all(_is_short(one) for one in found):
        raise PackageError(f"{ACTION} gave something else than text of at most {TEXT_CHARS_MAX} printable characters", "return text")
    return found


def _is_short(value: object) -> bool:
    return isinstance(value, str) and len(value) <= TEXT_CHARS_MAX and value.isprintable()


def same_scenario(wanted: str, certified: str) -> None:
    """Raises InputError when the hooks are of another scenario or version than the certificate that answered. Both as `id@version`."""
    if wanted != certified:
        raise InputError(f"these hooks are of {wanted}, and {certified} answered", f"give --hooks {certified}")
