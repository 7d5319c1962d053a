"""Invitations: good once, until they expire or are revoked, and the only way in where the operator says so."""

from __future__ import annotations

from pathlib import Path

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.contracts.errors import ConflictError, ForbiddenError, InputError, IsthmusError, NotFoundError, RemoteError
from isthmus.contracts.party import PARTY_TYPE, Invitation, InviteRequest, Joining, Party
from isthmus.kit.clock import SetClock
from isthmus.kit.signing import SigningKey, seal
from isthmus.sandbox.jobstore import JobStore
from isthmus.sandbox.joining import invitation_of, join, text_of
from isthmus.sandbox.nodehome import NodeSettings, init_home
from isthmus.sandbox.nodestate import joined_exchange
from isthmus.sandbox.outlog import verify_log
from isthmus.sandbox.service import SandboxService
from tests.sandbox.world import write_folder

EXCHANGE = SigningKey.from_seed(b"x" * 32)
WANTED = InviteRequest(purposes=("inspect",), ttl_s=100)
INVITATION = Invitation(
    exchange="https://exchange.example#sha256:" + "0b" * 32,
    public_key=EXCHANGE.public_hex,
    purposes=("inspect",),
    token="t",
    expires_at_s=9,
)


def joining(token: str, party: str = "delta", seed: bytes = b"d") -> Joining:
    key = SigningKey.from_seed(seed * 32)
    word = seal(key, PARTY_TYPE, Party(id=party, name=party, kind="owner", public_key=key.public_hex))
    return Joining(token=token, party=msgspec.to_builtins(word))


@pytest.fixture
def service(tmp_path: Path) -> SandboxService:
    return SandboxService(JobStore(tmp_path / "s.sqlite"), EXCHANGE, SetClock(1000.0), invited_only=True)


def state_of(service: SandboxService) -> list[str]:
    return [guest.state for guest in service.guests.guests()]


def test_an_invitation_is_good_once(service: SandboxService) -> None:
    token = service.guests.invite(WANTED).token
    assert token not in str(service.guests.guests()) and state_of(service) == ["open"]
    joined = service.join(joining(token))
    assert (joined.party, joined.purposes, joined.public_key) == ("delta", ("inspect",), EXCHANGE.public_hex)
    assert service.join(joining(token)) == joined, "an answer that was lost is given again"
    for other in (joining(token, "echo", b"e"), joining(token, "delta", b"e")):
        with pytest.raises(ForbiddenError, match="used"):
            service.join(other)
    assert service.guests.guests()[0].used_by == "delta" and list(service.parties()) == ["delta"]


def test_one_that_expired_was_revoked_or_is_made_up_lets_nobody_in(service: SandboxService) -> None:
    late, revoked = service.guests.invite(WANTED), service.guests.invite(msgspec.structs.replace(WANTED, ttl_s=1000))
    service.guests.revoke(revoked.id)
    service._clock.advance(101)  # type: ignore[attr-defined]
    for token, why in ((late.token, "expired"), (revoked.token, "revoked"), ("made-up", "no invitation"), ("", "no invitation")):
        with pytest.raises(ForbiddenError, match=why):
            service.join(joining(token))
    assert sorted(state_of(service)) == ["expired", "revoked"] and not service.parties()
    for unknown in (revoked.id, "inv_none"):
        with pytest.raises(NotFoundError):
            service.guests.revoke(unknown)


def test_one_that_could_not_be_used_stays_open(service: SandboxService) -> None:
    first, second = service.guests.invite(WANTED).token, service.guests.invite(msgspec.structs.replace(WANTED, party="echo")).token
    service.join(joining(first))
    with pytest.raises(ForbiddenError, match="is for echo"):
        service.join(joining(second, "foxtrot", b"f"))
    with pytest.raises(ConflictError):
        service.join(joining(second, "echo", b"d"))
    assert state_of(service) == ["open", "used"]
    assert service.join(joining(second, "echo", b"e")).party == "echo"


def test_without_one_a_new_party_is_refused_and_a_known_one_is_not(service: SandboxService, tmp_path: Path) -> None:
    envelope = msgspec.convert(joining("").party, type=type(seal(EXCHANGE, PARTY_TYPE, {})))
    with pytest.raises(ForbiddenError, match="not known"):
        service.register_party(envelope)
    service.join(joining(service.guests.invite(WANTED).token))
    assert service.register_party(envelope).id == "delta"
    open_to_all = SandboxService(JobStore(tmp_path / "open.sqlite"), EXCHANGE, SetClock(1000.0))
    assert open_to_all.register_party(envelope).id == "delta"


@pytest.mark.parametrize("changes", [{"purposes": ()}, {"purposes": ("",)}, {"ttl_s": 0}, {"ttl_s": 10**9}, {"party": "Not A Slug"}])
def test_what_cannot_be_asked_for_is_said(service: SandboxService, changes: dict[str, object]) -> None:
    with pytest.raises(InputError):
        service.guests.invite(msgspec.structs.replace(WANTED, **changes))


@given(st.text(max_size=80))
def test_no_text_but_an_invitation_is_one(text: str) -> None:
    with pytest.raises(IsthmusError):
        invitation_of(text.replace("/", "").replace("\0", ""))


@given(st.integers(0, 300), st.integers(0, 255))
def test_a_damaged_invitation_is_no_other_one(place: int, value: int) -> None:
    text = text_of(INVITATION)
    damaged = text[: place % len(text)] + chr(value) + text[place % len(text) + 1 :]
    try:
        found = invitation_of(damaged)
    except IsthmusError:
        return
    assert found.public_key and found.exchange.startswith("http")


def test_an_invitation_is_read_from_its_text_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "invitation").write_text(text_of(INVITATION) + "\n", encoding="utf-8")
    assert invitation_of(text_of(INVITATION)) == invitation_of(str(tmp_path / "invitation")) == INVITATION


def test_joining_stands_in_the_owners_log_first(tmp_path: Path, service: SandboxService) -> None:
    data = write_folder(tmp_path / "data", 1, records=24)
    settings = NodeSettings(id="delta", name="Delta", kind="owner", data=str(data), licence="test", sample=True)
    home, issued = init_home(tmp_path / "state", settings), service.guests.invite(WANTED)
    invitation = msgspec.structs.replace(INVITATION, token=issued.token, expires_at_s=issued.expires_at_s)

    def answer(asked: httpx.Request) -> httpx.Response:
        assert verify_log(home.log_path, home.key.public_hex)[-1].kind == "party"
        try:
            found = service.join(msgspec.json.decode(asked.content, type=Joining))
        except IsthmusError as error:
            return httpx.Response(error.http_status, json=error.as_dict())
        return httpx.Response(200, content=msgspec.json.encode(found))

    clock = SetClock(1000.0)
    assert join(home, invitation, clock, httpx.MockTransport(answer)).purposes == ("inspect",)
    known = joined_exchange(tmp_path / "state")
    assert known is not None and known.address == invitation.exchange
    other = msgspec.structs.replace(invitation, public_key="0" * 64)
    with pytest.raises(InputError, match="another key"):
        join(home, other, clock, httpx.MockTransport(answer))
    with pytest.raises(RemoteError, match="no invitation"):
        join(home, msgspec.structs.replace(invitation, token="x"), clock, httpx.MockTransport(answer))
    for bad in ({"expires_at_s": 1000}, {"party": "echo"}):
        with pytest.raises(InputError):
            join(home, msgspec.structs.replace(invitation, **bad), clock, httpx.MockTransport(answer))
    home.store.close()
