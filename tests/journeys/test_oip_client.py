"""The data path as a client meets it: over sockets, with the real book, key ring, certificate gate and engine process.

The requests are the bytes that NVIDIA's `tritonclient` sends; which then makes the same calls itself.
"""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import uvicorn
from starlette.applications import Starlette

from isthmus.access.keys import KeyRing, open_keys
from isthmus.app.certificate_gate import CertificateGate
from isthmus.app.gateway_routes import gateway_routes
from isthmus.assurance.certificate import certificate_digest
from isthmus.contracts.certificate import PAYLOAD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE, Certificate, Claims, Predicate, Subject
from isthmus.contracts.deployment import Deployment
from isthmus.contracts.errors import ArtefactEditedError, NotFoundError
from isthmus.contracts.head import Array, Head
from isthmus.contracts.money import AccountName, Entry
from isthmus.contracts.price import OwnerWeight, Price, Split
from isthmus.foundry.engine import Scorer
from isthmus.foundry.engine_process import EngineProcess
from isthmus.foundry.export import artefact_digest, build_artefact
from isthmus.foundry.features import stage
from isthmus.gateway.registry import Registry
from isthmus.gateway.service import DECODERS, Service
from isthmus.kit.clock import SystemClock
from isthmus.kit.pictures import DECODER, encode_png
from isthmus.kit.signing import Envelope, SigningKey, seal
from isthmus.ledger.book import Book, open_book
from isthmus.ledger.meter import Meter
from isthmus.ledger.verify import verify_receipt

PARTS = ("block/5",)
CREDIT_MICROS = 1_000_000
PRICE_MICROS = 300


def head() -> Head:
    found = stage(PARTS)
    coefficients = np.random.default_rng(5).normal(0, 1e-5, found.dimension)
    return Head(stage=found, coefficients=Array.of(coefficients), bias=0.1, lo=-0.2, hi=0.2, decoder=DECODER)


class Certificates:
    """One signed certificate for one artefact, and what was revoked."""

    def __init__(self, key: SigningKey, digest: str) -> None:
        now_s = int(time.time())
        numbers = {name: 0 for name, field in Claims.__annotations__.items() if field == "int"}
        predicate = Predicate(
            tier="T2",
            scenario="cells",
            site="line-1",
            decoder=DECODER,
            head_digest="sha256:0",
            stage_digest="sha256:0",
            bars_digest="sha256:0",
            evidence_digest="sha256:0",
            claims=Claims(**{**numbers, "groups_inferred": False}),
            parties=(),
            agreements=(),
            not_before_s=now_s - 10,
            not_after_s=now_s + 3600,
        )
        subject = Subject(name="model.onnx", digest={"sha256": digest.removeprefix("sha256:")})
        self.envelope = seal(
            key, PAYLOAD_TYPE, Certificate(type_=STATEMENT_TYPE, subject=(subject,), predicate_type=PREDICATE_TYPE, predicate=predicate)
        )
        self.digest = certificate_digest(self.envelope)
        self.withdrawn: set[str] = set()

    def certificate(self, digest: str) -> Envelope:
        if digest != self.digest:
            raise NotFoundError("no such certificate", "certify")
        return self.envelope

    def revoked(self) -> set[str]:
        return self.withdrawn


@dataclass
class Site:
    url: str
    bearer: str
    meter: Meter
    key: SigningKey
    artefact: Path
    scorer: Scorer
    certificates: Certificates
    registry: Registry
    deployment: Deployment

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.bearer}"}, trust_env=False, timeout=60)

    def left(self) -> int:
        return self.meter.book.balance(AccountName(party="user-1", role="balance", unit="EUR")).balance


def _book(folder: Path, key: SigningKey) -> Meter:
    db, clock = open_book(folder / "book.sqlite"), SystemClock()
    meter = Meter(db, clock, key)
    meter.prices.add_price(Price(id="price-1", series="cells", effective_at_s=0, currency="EUR", inference_micros=PRICE_MICROS))
    meter.prices.add_split(
        Split(
            id="split-1",
            effective_at_s=0,
            compute="compute-1",
            compute_ppm=400_000,
            vendor="vendor-1",
            vendor_ppm=200_000,
            exchange="exchange",
            exchange_ppm=100_000,
            owners_ppm=300_000,
            owners=(OwnerWeight(party="owner-1", weight=2), OwnerWeight(party="owner-2", weight=1)),
            residue="exchange",
        )
    )
    balance = AccountName(party="user-1", role="balance", unit="EUR")
    issued = AccountName(party="exchange", role="issued", unit="EUR")
    book = Book(db, clock)
    book.set_floor(balance, 0)
    book.post("credit-1", (Entry(account=balance, amount=CREDIT_MICROS), Entry(account=issued, amount=-CREDIT_MICROS)), "credit")
    return meter


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    raw = build_artefact(head())
    artefact = folder / "model.onnx"
    artefact.write_bytes(raw)
    key = SigningKey.from_seed(b"k" * 32)
    certificates = Certificates(key, artefact_digest(raw))
    meter = _book(folder, key)
    keys = KeyRing(open_keys(folder / "keys.sqlite"), SystemClock())
    registry = Registry(CertificateGate(certificates, {key.key_id: key.public_hex}), EngineProcess, SystemClock(), DECODERS)
    deployment = Deployment(
        name="cells",
        version="1",
        artefact_digest=artefact_digest(raw),
        certificate_digest=certificates.digest,
        site="line-1",
        tier="T2",
        price_id="price-1",
        split_id="split-1",
        provider="compute-1",
        decoder=DECODER,
        lo=-0.2,
        hi=0.2,
    )
    registry.load(deployment, artefact)
    app = Starlette(routes=gateway_routes(Service(registry, keys, meter, SystemClock(), "0.1.0")))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    bearer = keys.create("user-1").bearer
    yield Site(f"http://127.0.0.1:{port}", bearer, meter, key, artefact, Scorer(raw), certificates, registry, deployment)
    server.should_exit = True
    thread.join(10)
    registry.close()


def photos(count: int, seed: int = 1) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (count, 48, 40, 3), dtype=np.uint8)


def test_a_request_by_hand_from_socket_to_verified_receipt(site: Site) -> None:
    images = photos(3)
    before = site.left()
    tail = b"".join(struct.pack("<I", len(png)) + png for png in map(encode_png, images))
    document = {
        "id": "by-hand-1",
        "inputs": [{"name": "image", "shape": [3], "datatype": "BYTES", "parameters": {"binary_data_size": len(tail)}}],
        "parameters": {"binary_data_output": True},
    }
    raw = json.dumps(document).encode()
    with site.client() as http:
        headers = {"Inference-Header-Content-Length": str(len(raw)), "Content-Type": "application/octet-stream"}
        response = http.post("/v2/models/cells/infer", content=raw + tail, headers=headers)
        again = http.post("/v2/models/cells/infer", content=raw + tail, headers=headers)
    assert response.status_code == 200, response.text
    assert again.content == response.content
    length = int(response.headers["Inference-Header-Content-Length"])
    answer = json.loads(response.content[:length])
    scores, verdicts = site.scorer.judged(list(images))
    assert struct.unpack("<fff", response.content[length : length + 12]) == tuple(scores.astype(np.float32))
    words = b"".join(struct.pack("<I", len(word)) + word for word in ((b"good", b"defect", b"person")[v] for v in verdicts))
    assert response.content[length + 12 :] == words
    receipt = site.meter.find(answer["parameters"]["receipt"])
    assert receipt is not None and receipt.charge_micros == 3 * PRICE_MICROS == before - site.left()
    shown = msgspec.to_builtins(site.meter.receipts.shown(receipt.id, "user-1"))
    assert verify_receipt(shown, [site.key.public_hex]).holds
    assert sum(line.amount_micros for line in receipt.lines) == receipt.charge_micros
    assert site.meter.open_holds() == ()


def test_a_file_by_curl(site: Site) -> None:
    with site.client() as http:
        response = http.post("/v2/models/cells/infer", content=encode_png(photos(1)[0]), headers={"Inference-Header-Content-Length": "0"})
    assert response.json()["outputs"][1]["data"][0] in ("good", "defect", "person")


def test_revoked_then_edited_is_refused_and_nothing_is_charged(site: Site) -> None:
    before = site.left()
    body, headers = encode_png(photos(1)[0]), {"Inference-Header-Content-Length": "0"}
    whole = site.artefact.read_bytes()
    with site.client() as http:
        site.certificates.withdrawn.add(site.certificates.digest)
        refused = http.post("/v2/models/cells/infer", content=body, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "certificate-revoked")
        site.certificates.withdrawn.clear()
        site.artefact.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        refused = http.post("/v2/models/cells/infer", content=body, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "artefact-edited")
        with pytest.raises(ArtefactEditedError):
            site.registry.load(site.deployment, site.artefact)
        site.artefact.write_bytes(whole)
        site.registry.load(site.deployment, site.artefact)
        assert http.post("/v2/models/cells/infer", content=body, headers=headers).status_code == 200
    assert before - site.left() == PRICE_MICROS


def test_a_killed_engine_costs_the_client_nothing_it_did_not_get(site: Site) -> None:
    engine = site.registry.find("cells").engine
    assert isinstance(engine, EngineProcess) and engine._process is not None
    engine._process.kill()
    engine._process.join()
    before = site.left()
    with site.client() as http:
        response = http.post("/v2/models/cells/infer", content=encode_png(photos(1)[0]), headers={"Inference-Header-Content-Length": "0"})
    charged = before - site.left()
    assert charged == (PRICE_MICROS if response.status_code == 200 else 0)
    assert site.meter.open_holds() == ()


def test_tritonclient(site: Site) -> None:
    import tritonclient.http as triton

    key = {"Authorization": f"Bearer {site.bearer}"}  # copied for each call: infer() writes into the dict it is given
    client = triton.InferenceServerClient(site.url.removeprefix("http://"))
    try:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("cells", "1")
        assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
        assert client.get_model_metadata("cells", headers=dict(key))["versions"] == ["1"]
        images = photos(2, seed=3)
        pixels = triton.InferInput("image", list(images.shape), "UINT8")
        for binary in (True, False):
            pixels.set_data_from_numpy(images, binary_data=binary)
            found = client.infer("cells", [pixels], request_id=f"triton-{binary}", headers=dict(key))
            assert np.array_equal(found.as_numpy("score"), site.scorer.scores(list(images)).astype(np.float32))
            assert set(found.as_numpy("verdict")) <= {b"good", b"defect", b"person"}
        files = triton.InferInput("image", [2], "BYTES")
        files.set_data_from_numpy(np.array([encode_png(image) for image in images], dtype=np.object_))
        wanted = [triton.InferRequestedOutput("score", binary_data=False)]
        found = client.infer("cells", [files], outputs=wanted, headers=dict(key))
        assert np.array_equal(found.as_numpy("score"), site.scorer.scores(list(images)).astype(np.float32))
        with pytest.raises(triton.InferenceServerException, match="no bearer key") as refused:
            client.infer("cells", [files])
        assert refused.value.status() == "401"
    finally:
        client.close()
