"""`isthmus schema`: writes the public face into a folder, or says how far a folder is from it."""

from __future__ import annotations

from pathlib import Path

import click

from isthmus.cli.reference import SCHEMAS, differing, reference_files
from isthmus.contracts.errors import StorageError


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--check", is_flag=True, help="Write nothing; say which files differ from the code, exit code 1 if any does.")
def schema(folder: Path, check: bool) -> int:
    """Writes JSON Schemas of all contract nouns, openapi.json, and the pages of errors, settings, limits and commands into FOLDER.

    The committed ones are in docs/reference:  isthmus schema docs/reference
    """
    files = reference_files()
    if check:
        wrong = differing(folder, files)
        for name in wrong:
            click.echo(f"{folder / name} differs from the code")
        click.echo("run make reference" if wrong else f"{len(files)} files are as the code says")
        return 1 if wrong else 0
    try:
        (folder / SCHEMAS).mkdir(parents=True, exist_ok=True)
        for stale in (folder / SCHEMAS).glob("*.json"):
            stale.unlink()
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror}", "give a folder that you may write") from error
    click.echo(f"{len(files)} files written to {folder}")
    return 0
