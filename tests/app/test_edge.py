"""The exchange's side of boxes: paid beforehand, counted once whatever is sent again, chained, and given back at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from isthmus.app.build import Build
from isthmus.app.edge import EdgeDesk
from isthmus.assurance.certificate import read
from isthmus.cli.export import target_of
from isthmus.contracts.edge import EdgeBox, EdgeOrder, EdgeTaken
from isthmus.contracts.errors import (
    AuthError,
    CertificateRevokedError,
    ConflictError,
    ForbiddenError,
    InputError,
    InsufficientFundsError,
    NotFoundError,
    StorageError,
    UnknownModelError,
)
from isthmus.contracts.money import AccountName
from isthmus.foundry.export import artefact_digest, build_artefact
from isthmus.foundry.features import BACKBONES, stage
from isthmus.ledger.check import check_book
from tests.app.edge_world import PARTY, EdgeWorld, batch, journal
from tests.app.world import house, request, scenario

PRICE_MICROS = scenario().serve.micros_per_inference
CURRENCY = scenario().serve.currency


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeWorld]:
    found = EdgeWorld(tmp_path_factory.mktemp("desk") / "state")
    yield found
    found.close()


def taken(world: EdgeWorld, box: EdgeBox, records: Any) -> EdgeTaken:
    return world.exchange.edge.take(world.exchange.keys.holder(box.key), batch(records))


def funds(world: EdgeWorld, party: str, role: Any = "balance") -> int:
    return world.exchange.meter.book.balance(AccountName(party=party, role=role, unit=CURRENCY)).balance


def book_stands(world: EdgeWorld) -> None:
    key = world.exchange.key
    assert check_book(world.exchange.meter.db, {key.key_id: key.public_hex}).holds


def test_what_a_box_may_judge_is_paid_beforehand_and_the_rest_comes_back(world: EdgeWorld) -> None:
    before = funds(world, PARTY)
    box = world.box(allowance=10)
    assert box.prepaid_micros == 10 * PRICE_MICROS == funds(world, box.box) and funds(world, PARTY) == before
    made = taken(world, box, journal(box.box, 4))
    assert (made.taken, made.owed, len(made.receipts), made.withdrawn) == (4, 0, 1, False)
    receipt = world.exchange.meter.receipts.shown(made.receipts[0], box.box)
    assert receipt.charge_micros == 4 * PRICE_MICROS and receipt.usage.inferences == 4
    assert receipt.sections["parties"].body["compute"] == PARTY, "who owns the box provides the compute"
    ended = world.exchange.edge.retire(box.box)
    assert ended.state == "retired" and ended.returned_micros == 6 * PRICE_MICROS and funds(world, box.box) == 0
    assert funds(world, PARTY) == before + 6 * PRICE_MICROS
    assert world.exchange.edge.retire(box.box) == ended, "again is no error"
    with pytest.raises(AuthError, match="revoked"):
        taken(world, box, journal(box.box, 5))
    book_stands(world)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 31)), min_size=1, max_size=8))
def test_whatever_is_sent_again_is_counted_once(world: EdgeWorld, cuts: list[tuple[int, int]]) -> None:
    """Any pieces of the journal, overlapping as they like: what is new is counted, what leaves a gap is refused and changes nothing."""
    box = world.box(allowance=50)
    records, known = journal(box.box, 31), 0
    for first, last in cuts:
        piece = records[first:last]
        if piece and first > known:
            with pytest.raises(ConflictError, match="does not go on"):
                taken(world, box, piece)
            continue
        known = max(known, last if piece else 0)
        assert taken(world, box, piece).taken == known
    assert funds(world, box.box) == (50 - known) * PRICE_MICROS


def test_a_copy_an_edit_and_a_gap_are_noticed(world: EdgeWorld) -> None:
    box = world.box()
    records = journal(box.box, 6)
    taken(world, box, records[:3])
    forked = (msgspec.structs.replace(records[2], verdict="good", score="0.5"), *records[3:])
    other = journal(box.box, 4, verdicts=("good",))
    for wrong in (forked, records[4:], other, (records[3], records[5]), (msgspec.structs.replace(records[3], prev=records[0].prev),)):
        with pytest.raises(ConflictError, match="does not go on"):
            taken(world, box, wrong)
    assert taken(world, box, records).taken == 6
    strange = world.box()
    with pytest.raises(ConflictError):
        taken(world, strange, records)


def test_a_crash_between_keeping_and_metering_is_made_good_once(world: EdgeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    box = world.box()
    records = journal(box.box, 5)

    def down(*_: object, **__: object) -> None:
        raise StorageError("the database cannot be used now", "check the disk")

    monkeypatch.setattr(EdgeDesk, "settle", down)
    with pytest.raises(StorageError):
        taken(world, box, records[:3])
    monkeypatch.undo()
    paid = EdgeDesk._metered

    def paid_and_gone(self: EdgeDesk, *words: Any) -> str:
        paid(self, *words)
        raise StorageError("the machine was switched off", "start it again")

    monkeypatch.setattr(EdgeDesk, "_metered", paid_and_gone)
    with pytest.raises(StorageError):
        taken(world, box, records[:3])
    monkeypatch.undo()
    assert world.exchange.edge.settle_all() == 1 and world.exchange.edge.settle_all() == 0
    assert taken(world, box, records).taken == 5
    assert funds(world, box.box) == 95 * PRICE_MICROS
    book_stands(world)


def test_what_was_not_paid_for_is_kept_and_owed(world: EdgeWorld) -> None:
    box = world.box(allowance=3)
    records = journal(box.box, 8)
    assert taken(world, box, records[:2]).owed == 0
    made = taken(world, box, records)
    assert made.taken == 8 and made.owed == 6 and made.receipts == () and funds(world, box.box) == PRICE_MICROS
    standing = next(found for found in world.exchange.edge.boxes() if found.box == box.box)
    assert standing.owed == 6 and standing.waiting == sum(record.verdict == "person" for record in records)


def test_what_cannot_be_enrolled(world: EdgeWorld, tmp_path: Path) -> None:
    enrol, name = world.exchange.edge.enrol, world.deployment.name
    with pytest.raises(InsufficientFundsError):
        enrol(EdgeOrder(deployment=name, party="poor", allowance=5))
    assert not [found for found in world.exchange.edge.boxes() if found.party == "poor"]
    with pytest.raises(UnknownModelError):
        enrol(EdgeOrder(deployment="nothing", party=PARTY, allowance=5, credit=True))
    for party in ("Not A Name", "a" * 60):
        with pytest.raises(InputError):
            enrol(EdgeOrder(deployment=name, party=party, allowance=5, credit=True))
    other = EdgeWorld(tmp_path / "state")
    other.exchange.catalogue.revoke(other.deployment.certificate_digest, "why")
    with pytest.raises(CertificateRevokedError):
        other.box()
    other.close()


def test_only_a_boxs_key_tells_what_it_judged(world: EdgeWorld) -> None:
    key = world.exchange.keys.create("alba")
    with pytest.raises(ForbiddenError, match="not a box's"):
        world.exchange.edge.take(key.key, batch(()))
    with pytest.raises(NotFoundError):
        world.exchange.edge.retire("nobody-box-1")


def test_tickets_are_decided_once(world: EdgeWorld) -> None:
    box = world.box()
    taken(world, box, journal(box.box, 6))
    own = [ticket for ticket in world.exchange.edge.tickets() if ticket.box == box.box]
    assert [ticket.seq for ticket in own] == [2, 5] and all(ticket.decided is None for ticket in own)
    assert world.exchange.edge.decide(box.box, 2, "defect").decided == "defect"
    assert world.exchange.edge.decide(box.box, 2, "defect").decided == "defect"
    with pytest.raises(ConflictError, match="decided as defect"):
        world.exchange.edge.decide(box.box, 2, "good")
    for seq in (1, 99):
        with pytest.raises(NotFoundError):
            world.exchange.edge.decide(box.box, seq, "good")
    assert [ticket.seq for ticket in world.exchange.edge.tickets() if ticket.box == box.box] == [5]


def test_the_routes(world: EdgeWorld) -> None:
    http, token = TestClient(world.exchange.app, base_url="http://127.0.0.1"), world.exchange.operator_token

    def ask(method: str, path: str, key: str = token, body: object = None) -> tuple[int, Any]:
        answer = http.request(method, path, headers={"authorization": f"Bearer {key}"}, content=msgspec.json.encode(body))
        return answer.status_code, answer.json()

    order = EdgeOrder(deployment=world.deployment.name, party=PARTY, allowance=9, credit=True)
    status, made = ask("POST", "/v1/edge/boxes", body=order)
    assert status == 201 and made["key"].startswith("isk_")
    records = journal(made["box"], 3)
    status, told = ask("POST", "/v1/edge/records", made["key"], batch(records))
    assert status == 200 and told["taken"] == 3 and len(told["receipts"]) == 1
    assert ask("POST", "/v1/edge/records", made["key"], batch(records))[1] == {**told, "receipts": []}
    for path, method in (("/v1/edge/boxes", "GET"), ("/v1/edge/boxes", "POST"), ("/v1/edge/tickets", "GET")):
        assert ask(method, path, made["key"], order)[0] == 403
        assert http.request(method, path).status_code == 401
    wrong = [
        {"records": [{**msgspec.to_builtins(records[0]), **change}]}
        for change in ({"seq": 0}, {"score": "nan"}, {"image": "x"}, {"more": 1})
    ]
    assert {ask("POST", "/v1/edge/records", made["key"], body)[1]["code"] for body in wrong} == {"bad-document"}
    assert ask("POST", f"/v1/edge/tickets/{made['box']}/2", body={"verdict": "good"})[1]["decided"] == "good"
    assert ask("POST", f"/v1/edge/tickets/{made['box']}/two", body={"verdict": "good"})[0] == 400
    assert ask("POST", f"/v1/edge/boxes/{made['box']}/retirement")[1]["returned_micros"] == 6 * PRICE_MICROS
    assert any(found["box"] == made["box"] for found in ask("GET", "/v1/edge/boxes")[1])


def test_integers_are_certified_as_a_target_of_their_own(tmp_path: Path) -> None:
    """Nodes compute integer features, the head is solved from their sums, and the nodes rebuild just this artefact."""
    made, plain = house(tmp_path), request()
    recipe = msgspec.structs.replace(plain.scenario.recipe, backbone="efficientnet-lite0-dim-int8")
    wanted = msgspec.structs.replace(plain, scenario=msgspec.structs.replace(plain.scenario, recipe=recipe))
    made.begun("run_8", wanted)
    certified, result = Build(made.shop, "run_8", wanted).walk()
    head = made.catalogue.head(result["artefact_digest"])
    assert certified and target_of(head) == "cpu-int8"
    assert (
        artefact_digest(build_artefact(head))
        == result["artefact_digest"]
        == artefact_digest(made.catalogue.artefact(result["artefact_digest"]))
    )
    assert head.stage.digest not in {stage(head.stage.parts, backbone=name).digest for name in BACKBONES if name != head.stage.backbone}
    envelope = made.catalogue.certificate(result["certificate"]["digest"])
    assert read(envelope, {made.key.key_id: made.key.public_hex}).predicate.stage_digest == head.stage.digest
    made.catalogue.close()
