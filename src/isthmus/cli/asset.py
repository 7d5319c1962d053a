"""`isthmus asset`: what an owner finds out about its own data, and says of it."""

from __future__ import annotations

import click

from isthmus.cli.asset_check import check


@click.group()
def asset() -> None:
    """An owner's data: check it here, before anything is trained on it."""


asset.add_command(check)
