"""Which build makes a scenario's head, of its owners together and at a site."""

from __future__ import annotations

from isthmus.app.build import Build
from isthmus.app.forecasting import ForecastBuild
from isthmus.app.gaussian import GaussianBuild, GaussianSite
from isthmus.app.logisticbuild import LogisticBuild
from isthmus.app.privatebuild import PrivateBuild
from isthmus.app.site import SiteBuild
from isthmus.app.treebuild import TreeBuild
from isthmus.app.workshop import Workshop
from isthmus.contracts.build import RunRequest, SiteRequest
from isthmus.contracts.errors import InputError

BUILDS: dict[str, type[Build]] = {"gaussian": GaussianBuild, "logistic": LogisticBuild, "trees": TreeBuild}
"""By the recipe's head; others are `Build`."""
SITES: dict[str, type[SiteBuild]] = {"gaussian": GaussianSite}
"""The same at a site; others are `SiteBuild`."""


def build_of(shop: Workshop, run_id: str, request: RunRequest) -> Build:
    """The build that makes the scenario's head."""
    scenario = request.scenario
    numbers = scenario.interface.output == "value" or scenario.interface.foretold
    made = ForecastBuild if numbers else BUILDS.get(scenario.recipe.head, Build)
    made = made if scenario.recipe.privacy is None else PrivateBuild
    return made(shop, run_id, request)


def site_build_of(shop: Workshop, run_id: str, request: SiteRequest) -> SiteBuild:
    """The site's build that makes the head of the run it carries on."""
    _, fleet = shop.catalogue.request_of(request.run)
    recipe = fleet.scenario.recipe if isinstance(fleet, RunRequest) else None
    if recipe is not None and recipe.privacy is not None:
        raise InputError(f"the sums of {request.run} carry noise, and no site's model is made of those", "carry on a run without privacy")
    head = "" if recipe is None else recipe.head
    return SITES.get(head, SiteBuild)(shop, run_id, request)
