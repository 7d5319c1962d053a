"""An agreement: what one owner lets one purpose do with one asset. Its signed form is the ODRL document of contracts.odrl."""

from __future__ import annotations

from typing import Literal

import msgspec

AGREEMENT_TYPE = "application/vnd.isthmus.agreement.odrl+json"
TERMS_OFFER_TYPE = "application/vnd.isthmus.terms-offer.odrl+json"
ANY_STAGE = "*"
ANYWHERE = "*"
AGGREGATE_RATIO_MIN = 4
AGGREGATE_PARTICIPANTS_MIN = 3

Visibility = Literal["aggregate", "individual"]
PrivacyUnit = Literal["record", "group"]
Output = Literal["model", "evaluation", "statistics"]
OUTPUTS: tuple[Output, ...] = ("model", "evaluation", "statistics")


class PrivacyTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an owner lets all noisy answers about its data tell, over the data's lifetime, whoever asks and for whatever purpose.

    epsilon, delta: with them, neighbouring data sets differ by one unit, added or taken away. unit: a record, or all records of a group.
    unit_records_max: how many records a group may have at most, declared so that it is not itself read from the data; a node with a larger
    group refuses. 1 where a unit is a record.
    """

    epsilon: float
    delta: float
    unit: PrivacyUnit = "record"
    unit_records_max: int = 1


class Agreement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The terms that an owner's node enforces on every job, whatever the exchange says.

    asset: digest of the one asset. purposes, operations: what is allowed (operations are statistic names). runs_max: how
    many different run ids. least_group_size: fewest of the owner's own records behind any number that leaves.
    least_participants: fewest owners in a roster, this one included. participants: party id -> public key (hex) of every
    owner that may stand in a roster with this one, itself included; a roster with anybody else is refused.
    exchange: public key (hex) that must have signed each job. visibility: "aggregate" lets sums leave masked only, so that
    nobody sees this owner's alone; "individual" lets them be seen singly. stages: digests of allowed feature extractors, or
    "*". dimension_records_min_ratio: records behind what becomes visible, per feature (of heads, at most
    AGGREGATE_RATIO_MIN is asked); 0 switches the rule off and is allowed only with "individual". allow_own_head: the owner's
    own fitted head may leave, seen singly. contribution: the owner is scored by its own sums; excludes "aggregate".
    overlap_owners_min: rosters that overlap must differ by at least so many owners; 2 holds against the exchange and
    against each other owner, 3 also against one of them together with the exchange. privacy: every answer carries noise, and
    is paid for from this budget until it is spent; without it answers are exact. Times are whole seconds since the Unix epoch.

    sums_to, models_to: jurisdictions (slugs such as `de` or `eu`) where the exchange that gets sums may be, and where models made of
    them may serve; "*" for anywhere. outputs: what may be made of the sums. issuers: issuer id -> public key (hex) of those whose word
    makes a key count as a participant's. owners_share_ppm_min: the owners' part of each charge, at least. deletion_days: after the
    agreement has ended, sums and models that rest on it are deleted within so many days; None asks for no deletion.
    """

    owner: str
    asset: str
    exchange: str
    purposes: tuple[str, ...]
    operations: tuple[str, ...]
    participants: dict[str, str]
    issued_at_s: int
    expires_at_s: int
    runs_max: int
    least_group_size: int
    least_participants: int
    visibility: Visibility = "aggregate"
    stages: tuple[str, ...] = (ANY_STAGE,)
    dimension_records_min_ratio: int = AGGREGATE_RATIO_MIN
    allow_own_head: bool = False
    contribution: bool = False
    overlap_owners_min: int = 2
    sample: bool = False
    privacy: PrivacyTerms | None = None
    sums_to: tuple[str, ...] = (ANYWHERE,)
    models_to: tuple[str, ...] = (ANYWHERE,)
    outputs: tuple[Output, ...] = OUTPUTS
    issuers: dict[str, str] = {}
    owners_share_ppm_min: int = 0
    deletion_days: int | None = None
