"""`isthmus label`: a person labels the pictures that teach most, on a page that the owner's own node serves to this machine alone."""

from __future__ import annotations

import json
import sys
import webbrowser
from pathlib import Path

import click
import uvicorn
from rich.console import Console

from isthmus.cli import leash as leashes
from isthmus.cli.listener import bound_socket
from isthmus.cli.try_folder import Bars
from isthmus.console.label_pages import label_app, new_token
from isthmus.contracts.errors import ExchangeStateError, InputError, NotFoundError
from isthmus.contracts.ports import Extractor
from isthmus.foundry.features import StageExtractor
from isthmus.kit.clock import SystemClock
from isthmus.kit.config import Settings, read_settings
from isthmus.sandbox.labelbook import open_book
from isthmus.sandbox.nodehome import data_folder
from isthmus.scenarios.draw import samples_behind
from isthmus.scenarios.labelling import PICTURES_MAX_DEFAULT, Desk, gather_pile
from isthmus.scenarios.package import find_package, load_package

LOOPBACK = "127.0.0.1"
BACKBONE = "efficientnet-lite0-dim"
PARTS = ("defects/max", "defects/mean", "texture/24")
GRACE_S = 3
NAMES_SHOWN = 5


def labelled_folder(place: str, settings: Settings) -> Path:
    """The folder that a word of the command line means: a folder, or the data of a site or owner in the state folder.

    A site's node keeps a drawn copy of its samples; what is labelled is the samples themselves. Raises NotFoundError, FolderError.
    """
    folder = Path(place)
    if folder.is_dir():
        return folder
    home = settings.state / "nodes" / place
    if "/" in place or not home.is_dir():
        known = sorted(entry.name for entry in (settings.state / "nodes").glob("*") if entry.is_dir()) if settings.state.is_dir() else []
        raise NotFoundError(
            f"{place} is no folder, and no site or owner in {settings.state}",
            f"give a folder of pictures, or one of {', '.join(known)}" if known else "give a folder of pictures",
        )
    return samples_behind(data_folder(home))


def extractor_for(scenario: str | None, settings: Settings, threads: int) -> Extractor:
    """Features as the scenario's recipe says, or those that a new package begins with."""
    if scenario is None:
        return StageExtractor(PARTS, threads, backbone=BACKBONE)
    package = load_package(find_package(scenario, settings.state))
    recipe = package.recipe
    if package.interface.input != "image":
        raise InputError(
            f"{package.id} takes {package.interface.input} records, and this page shows pictures only",
            "write their labels into records.csv",
        )
    return StageExtractor(recipe.parts, threads, backbone=recipe.backbone)


@click.command()
@click.argument("place", metavar="SITE|DIR")
@click.option("--scenario", default=None, help="Look at pictures as this scenario's recipe does; default: as a new package begins.")
@click.option("--state", type=click.Path(path_type=Path), default=None, help="State folder that knows SITE; default from ISTHMUS_STATE.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port on 127.0.0.1; 0 takes any free one.")
@click.option(
    "--limit",
    type=click.IntRange(1, 50_000),
    default=PICTURES_MAX_DEFAULT,
    show_default=True,
    help="Most unlabelled pictures to look at, drawn at random.",
)
@click.option("--threads", type=click.IntRange(1, 64), default=2, show_default=True, help="Processor threads for looking at pictures.")
@click.option("--open/--no-open", "open_page", default=False, show_default=True, help="Open the page in the browser.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with the page's address, once it listens.")
@leashes.OPTION
def label(
    place: str,
    scenario: str | None,
    state: Path | None,
    port: int,
    limit: int,
    threads: int,
    open_page: bool,
    as_json: bool,
    leash: bool,
) -> None:
    """Label pictures in the order that teaches a model most, with the keys G, D, U and Z.

    DIR is a folder of pictures; SITE is a site or owner of a run. Pictures without a label are those that labels.csv does not list; where
    there is no labels.csv, those in the sub-folder `unlabelled`, and those beside the sub-folders. Every answer is written into labels.csv
    before the next picture shows. Held-out groups are not asked. The page answers on this machine only, until you stop the command.

    \b
    Examples:
      isthmus label photos/hall-2 --open
      isthmus label hall-2
    """
    if leash:
        leashes.hold()
    settings, clock = read_settings(state=state), SystemClock()
    folder = labelled_folder(place, settings)
    with open_book(folder, clock) as book:
        with Bars(Console(stderr=True)) as bars:
            pile = gather_pile(book, extractor_for(scenario, settings, threads), bars, limit)
        for line in pile.unread[:NAMES_SHOWN]:
            click.echo(f"left out: {line}", err=True)
        desk = Desk(book, pile, clock)
        token = new_token()
        app = label_app(desk, token, settings.language)
        listener = bound_socket(LOOPBACK, port)
        address = f"http://{LOOPBACK}:{listener.getsockname()[1]}/#{token}"
        told = {"url": address, "folder": str(folder), "labelled": desk.state().labelled, "left": desk.state().left}
        click.echo(
            json.dumps(told)
            if as_json
            else f"Label at {address}\n(this machine only · answers go into {folder / 'labels.csv'} · stop: Ctrl-C)"
        )
        sys.stdout.flush()
        if open_page:
            webbrowser.open(address)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=GRACE_S))
        server.run(sockets=[listener])
    if not server.started:
        raise ExchangeStateError("the page could not be served", "try another --port")
