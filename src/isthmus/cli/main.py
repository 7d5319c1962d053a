"""The command `isthmus`: finds the command that was asked for, and is the edge where every failure becomes a sentence.

A command's file is imported when the command runs or its own help is asked for, so that `isthmus --help` is quick.

Exit codes: 0 done; 1 done, and the answer is no (or a failure of the machine); 2 what was given cannot be used;
70 a fault of the program; 130 stopped by the user; 141 whoever read the output went away. A failure is one line on
standard error, `error [code]: what; next: what to do`. With --json it is also one object on standard output:
{"error": {"code": ..., "message": ..., "next": ...}}.
"""

from __future__ import annotations

import difflib
import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from isthmus import __version__
from isthmus.contracts.errors import InputError, IsthmusError
from isthmus.kit.config import read_settings, trace_wanted
from isthmus.kit.texts import Texts, load_texts

EXIT_USAGE = 2
EXIT_FAULT = 70
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141

COMMANDS: dict[str, dict[str, str]] = {
    "begin": {
        "try": "isthmus.cli.try_folder:try_folder",
        "label": "isthmus.cli.label:label",
        "run": "isthmus.cli.run:run",
        "replicate": "isthmus.cli.replicate:replicate",
        "scenario": "isthmus.cli.scenario:scenario",
    },
    "serve": {
        "up": "isthmus.cli.up:up",
        "node": "isthmus.cli.node:node",
        "asset": "isthmus.cli.asset:asset",
        "deployment": "isthmus.cli.deployment:deployment",
        "account": "isthmus.cli.account:account",
        "judge": "isthmus.cli.judge:judge",
        "withdrawal": "isthmus.cli.withdrawal:withdrawal",
        "export": "isthmus.cli.export:export",
        "warn": "isthmus.cli.warn:warn",
    },
    "verify": {
        "certificate": "isthmus.cli.certificate:certificate",
        "receipt": "isthmus.cli.receipt:receipt",
        "lot": "isthmus.cli.lot:lot",
        "statement": "isthmus.cli.statement:statement",
        "contribution": "isthmus.cli.contribution:contribution",
        "worth": "isthmus.cli.worth:worth",
        "book": "isthmus.cli.book:book",
    },
    "care": {
        "doctor": "isthmus.cli.doctor:doctor",
        "schema": "isthmus.cli.schema:schema",
    },
}
TARGETS = {name: target for section in COMMANDS.values() for name, target in section.items()}

START = (
    ("isthmus doctor", "cli.start.doctor"),
    ("isthmus try FOLDER", "cli.start.try"),
    ("isthmus run solar-cell-inspection", "cli.start.run"),
)
EXAMPLES = (
    ("isthmus run solar-cell-inspection --json", "cli.example.report"),
    ("isthmus replicate solar-cell-inspection --site line-4 --samples 40", "cli.example.replicate"),
    ("isthmus certificate verify CERTIFICATE --artefact MODEL --public-key KEY", "cli.example.verify"),
)


# Codes that only the command line has, beside those of the tree of errors.
EDGE_CODES = {
    "bad-usage": (EXIT_USAGE, "An option or argument is unknown, missing, or has a value that it cannot have."),
    "package-missing": (1, "A package that the command needs is not installed."),
    "system-refused": (1, "The operating system refused: a path, its permissions, or a full disk."),
    "interrupted": (EXIT_INTERRUPTED, "The user stopped the command (Ctrl-C)."),
    "unexpected": (EXIT_FAULT, "A fault of the program; ISTHMUS_TRACE=1 shows where."),
}


@dataclass(frozen=True)
class Failure:
    """How a failure is told."""

    code: str
    message: str
    next_step: str
    exit_code: int


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed; see TARGETS."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(TARGETS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = TARGETS.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{target} is not a command")
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in TARGETS and not name.startswith("-"):
            near = difflib.get_close_matches(name, TARGETS, n=2)
            hint = _texts()("error.command.near", names=" or ".join(near)) if near else _texts()("error.usage.next", command="isthmus")
            raise InputError(f"there is no command {name!r}", hint)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        texts = _texts()
        self.format_usage(ctx, formatter)
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(texts("cli.about"))
        _write_pairs(formatter, texts("cli.start_here"), [(command, texts(key)) for command, key in START])
        for section, names in COMMANDS.items():
            _write_pairs(formatter, texts(f"cli.section.{section}"), [(name, texts(f"cli.{name}")) for name in names])
        self.format_options(ctx, formatter)
        with formatter.section(texts("cli.examples")):
            for command, key in EXAMPLES:
                formatter.write(f"{'':>{formatter.current_indent}}{command}\n{'':>{formatter.current_indent}}    {texts(key)}\n")
        formatter.write_paragraph()
        formatter.write_text(texts("cli.more"))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        click.Command.format_options(self, ctx, formatter)


def _write_pairs(formatter: click.HelpFormatter, title: str, pairs: list[tuple[str, str]]) -> None:
    with formatter.section(title):
        formatter.write_dl(pairs, col_max=40)


def _texts() -> Texts:
    """Sentences in the language that is set; English when the settings themselves are wrong."""
    try:
        return load_texts(read_settings().language)
    except IsthmusError:
        return load_texts("en")


@click.group(cls=LazyGroup, name="isthmus", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="isthmus", message="%(prog)s %(version)s")
@click.pass_context
def isthmus(ctx: click.Context) -> None:
    """The exchange for industrial AI, on one machine or many."""
    ctx.obj = read_settings()


def failure_of(error: BaseException) -> Failure:
    """What to tell of an exception, whatever it is."""
    texts = _texts()
    if isinstance(error, IsthmusError):
        said = error.as_dict()
        return Failure(said["code"], said["message"], said["next"], error.exit_code)
    if isinstance(error, ImportError) and error.name and not error.name.startswith("isthmus"):
        return Failure("package-missing", texts("error.package", name=error.name), texts("error.package.next"), 1)
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "isthmus"
        return Failure("bad-usage", error.format_message(), texts("error.usage.next", command=command), EXIT_USAGE)
    if isinstance(error, click.ClickException):
        return Failure("bad-usage", error.format_message(), "", error.exit_code)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return Failure("interrupted", texts("error.interrupted"), "", EXIT_INTERRUPTED)
    if isinstance(error, OSError) and error.strerror:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        return Failure("system-refused", texts("error.system", message=what), texts("error.system.next"), 1)
    first = (str(error).splitlines() or [""])[0][:300]
    message = texts("error.unexpected", kind=type(error).__name__, message=first)
    return Failure("unexpected", message, texts("error.unexpected.next"), EXIT_FAULT)


def tell(failure: Failure, as_json: bool) -> None:
    """One line on standard error; with as_json one object on standard output too."""
    texts = _texts()
    line = texts("error.line", code=failure.code, message=failure.message.strip().rstrip("."))
    if failure.next_step:
        line += texts("error.next", next_step=failure.next_step.strip().rstrip("."))
    click.echo(line, err=True)
    if as_json:
        body = {"code": failure.code, "message": failure.message, "next": failure.next_step}
        click.echo(json.dumps({"error": body}, ensure_ascii=False))


def run_command(arguments: Sequence[str]) -> int:
    """Runs one command line; returns its exit code, or raises what the command raised.

    A command that returns a whole number has chosen its exit code.
    """
    try:
        with isthmus.make_context("isthmus", list(arguments)) as ctx:
            result: Any = isthmus.invoke(ctx)
    except click.exceptions.Exit as error:
        return error.exit_code
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The process edge: returns the exit code and raises nothing."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = run_command(given)
        sys.stdout.flush()
        return code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else error.format_message())
        return 0
    except BrokenPipeError:
        return _reader_gone()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  the process edge
        if trace_wanted():
            traceback.print_exception(error)
        failure = failure_of(error)
        try:
            tell(failure, as_json="--json" in given)
            sys.stdout.flush()
        except BrokenPipeError:
            return _reader_gone()
        return failure.exit_code


def _reader_gone() -> int:
    """Whoever read our output closed it (`| head`): say no more, and let the interpreter's last flush go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_PIPE


if __name__ == "__main__":
    sys.exit(main())
