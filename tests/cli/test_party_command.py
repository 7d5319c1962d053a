"""`isthmus party`, `node start`, `pause` and `up --tls`: what cannot be is one sentence, before anything is started or sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.contracts.party import Invitation
from isthmus.kit.pinning import kept_certificate
from isthmus.sandbox.joining import text_of
from tests.journeys.inspection import spoken

PIN = "sha256:" + "0a" * 32
OLD = text_of(
    Invitation(exchange=f"https://10.9.9.9:1#{PIN}", public_key="1" * 64, purposes=("p",), token="t", expires_at_s=1, party="alfa")
)
PLAIN = text_of(Invitation(exchange="http://10.9.9.9:1", public_key="1" * 64, purposes=("p",), token="t", expires_at_s=2**40, party="alfa"))
NOBODY = text_of(Invitation(exchange=f"https://10.9.9.9:1#{PIN}", public_key="1" * 64, purposes=("p",), token="t", expires_at_s=2**40))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("party", "join", OLD, "DATA", "--state", "STATE"), "has expired"),
        (("party", "join", OLD, "DATA", "--state", "STATE", "--id", "bravo"), "has expired"),
        (("party", "join", PLAIN, "DATA", "--state", "STATE"), "is plain HTTP to another machine"),
        (("party", "join", NOBODY, "DATA", "--state", "STATE"), "names no party"),
        (("party", "join", NOBODY, "DATA", "--state", "STATE", "--id", "No!"), "is not a name"),
        (("party", "join", "rubbish", "DATA", "--state", "STATE"), "is no invitation"),
        (("party", "join", "isthmus-invitation:%%%", "DATA", "--state", "STATE"), "cannot be read"),
        (("party", "join", NOBODY, "NOWHERE", "--state", "STATE", "--id", "alfa"), "NOWHERE"),
        (("party", "invite", "--purpose", "p", "--state", "STATE"), "no exchange runs on"),
        (("party", "invitations", "--state", "STATE"), "no exchange runs on"),
        (("party", "revoke", "inv_1", "--state", "STATE"), "no exchange runs on"),
        (("party", "rotate-key", "--state", "STATE"), "no node's state folder"),
        (("node", "start", "--state", "STATE", "--exchange", "http://10.9.9.9:1"), "is plain HTTP"),
        (("node", "start", "--state", "STATE", "--exchange", "exchange"), "is no address"),
        (("node", "start", "--state", "STATE", "--exchange", "https://x#sha256:12"), "is not sha256:"),
        (("node", "start", "--state", "STATE"), "no node's state folder"),
        (("node", "pause", "--state", "STATE"), "no node's state folder"),
        (("node", "resume", "--state", "STATE"), "no node's state folder"),
        (("node", "page", "--state", "STATE"), "no node's state folder"),
        (("up", "--state", "STATE", "--tls-cert", "CERT", "--port", "0"), "needs its key"),
        (("up", "--state", "STATE", "--tls-cert", "CERT", "--tls-key", "CERT", "--port", "0"), "cannot be used"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    data = tmp_path / "data"
    (data / "good").mkdir(parents=True)
    (data / "records.csv").write_text(
        "a,label,group,split\n" + "".join(f"{i},{'good' if i % 2 else 'defect'},g{i},train\n" for i in range(9))
    )
    certificate, _ = kept_certificate(tmp_path / "tls", "localhost", 1.8e9)
    paths = {"DATA": data, "STATE": tmp_path / "state", "CERT": certificate, "NOWHERE": tmp_path / "NOWHERE"}
    ended = spoken(*(str(paths.get(word, word)) for word in words))
    assert ended.code != 0 and "Traceback" not in ended.err and told in ended.err, ended.err
    assert ended.err.count("error [") == 1 and "next:" in ended.err
