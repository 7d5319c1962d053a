"""What a certificate promises, as a document on a lot says it."""

from __future__ import annotations

import msgspec

from isthmus.app.catalogue import Catalogue
from isthmus.contracts.build import SiteRequest
from isthmus.contracts.certificate import Certificate
from isthmus.contracts.lot import LotModel
from isthmus.contracts.scenario import Scenario
from isthmus.kit.canonical import parse_canonical
from isthmus.kit.signing import payload_of


class LotTerms:
    """Looks certificates up. Called with a certificate's digest, an artefact's, and the parts judged under both."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def __call__(self, certificate: str, artefact: str, parts: int) -> LotModel:
        """Raises NotFoundError."""
        said = msgspec.convert(parse_canonical(payload_of(self._catalogue.certificate(certificate))), Certificate).predicate
        scenario = self._scenario(self._catalogue.run_of_certificate(certificate))
        return LotModel(
            certificate_digest=certificate,
            artefact_digest=artefact,
            scenario=said.scenario,
            site=said.site,
            tier=said.tier,
            classes=scenario.interface.classes,
            error_bound_ppm=said.claims.error_bound_ppm,
            confidence_ppm=said.claims.confidence_ppm,
            not_after_s=said.not_after_s,
            parts=parts,
        )

    def _scenario(self, run_id: str) -> Scenario:
        """Of a run; a site's is that of the fleet's run."""
        request = self._catalogue.request_of(run_id)[1]
        found: Scenario = (self._catalogue.request_of(request.run)[1] if isinstance(request, SiteRequest) else request).scenario
        return found
