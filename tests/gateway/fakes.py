"""In-memory stand-ins for what the data path asks of other rooms; each can be made to fail."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.deployment import Caller, Certified, Deployment
from isthmus.contracts.errors import (
    AuthError,
    CertificateExpiredError,
    ConflictError,
    HoldCapturedError,
    HoldVoidedError,
    InsufficientFundsError,
    StorageError,
    UnknownHoldError,
    UnknownPriceError,
)
from isthmus.contracts.lot import LotSection
from isthmus.contracts.money import AccountName, Hold
from isthmus.contracts.price import Price, Usage
from isthmus.contracts.receipt import Outcome, Receipt, Section
from isthmus.gateway.registry import Registry
from isthmus.gateway.service import DECODERS, Service
from isthmus.kit.clock import SetClock
from isthmus.kit.pictures import DECODER

KEY = "key-of-user-1"
PRICE_MICROS = 250


class FakeMeter:
    """A book in memory: one balance per caller. `down`: calls that raise StorageError while they are named in it;
    "opened" fails when the hold is already written."""

    def __init__(self, funds_micros: int = 1_000_000_000) -> None:
        self.funds = {"user-1": funds_micros, "user-2": funds_micros}
        self.attempts: dict[str, dict[str, Any]] = {}
        self.receipts: dict[str, Receipt] = {}
        self.lots: list[LotSection] = []
        self.events: list[tuple[str, str]] = []
        self.down: set[str] = set()
        self.lock = threading.Lock()

    def _called(self, what: str, attempt: str) -> None:
        if what in self.down:
            raise StorageError("the database cannot be used now", "check the disk")
        self.events.append((what, attempt))

    def open(
        self,
        request_id: str,
        caller: str,
        model: str,
        artefact_digest: str,
        price_id: str,
        split_id: str,
        worst_case: Usage,
        policy: dict[str, Any],
        *,
        certificate_digest: str | None = None,
        compute: str | None = None,
    ) -> Hold:
        with self.lock:
            self._called("open", request_id)
            if price_id != "price-1":
                raise UnknownPriceError(f"there is no price {price_id}", "publish it")
            amount = worst_case.inferences * PRICE_MICROS
            content = {"policy": policy, "artefact": artefact_digest, "worst": worst_case, "caller": caller}
            if request_id in self.receipts:
                raise HoldVoidedError("ended", "mint a new id")
            known = self.attempts.get(request_id)
            if known is None:
                if self.funds[caller] < amount:
                    raise InsufficientFundsError("not enough", "add credit")
                self.funds[caller] -= amount
                self.attempts[request_id] = {**content, "held": amount, "certificate": certificate_digest}
            elif known["policy"] != policy:
                raise ConflictError("other content", "use a new id")
            if "opened" in self.down:
                raise StorageError("the database failed after it had written", "check the disk")
            account = AccountName(party=caller, role="balance", unit="EUR")
            return Hold(id=request_id, account=account, amount=amount, state="open", captured=0, opened_at_ms=0, expires_at_ms=1)

    def _end(self, attempt_id: str, usage: Usage, outcome: str, reason: str) -> Receipt:
        attempt = self.attempts[attempt_id]
        charge = usage.inferences * PRICE_MICROS
        assert charge <= attempt["held"]
        self.funds[attempt["caller"]] += attempt["held"] - charge
        price = Price(id="price-1", series="s", effective_at_s=0, currency="EUR", inference_micros=PRICE_MICROS)
        bodies: dict[str, Any] = {
            "usage": {"usage": usage, "worst_case": attempt["worst"], "model": "m"},
            "price": {
                "price": price,
                "held_micros": attempt["held"],
                "priced_micros": charge,
                "charge_micros": charge,
                "overrun_micros": 0,
            },
            "policy": {"decision": attempt["policy"]},
            "certificate": {"artefact_digest": attempt["artefact"], "certificate_digest": attempt["certificate"]},
            "outcome": {"outcome": outcome, "reason": reason, "opened_at_ms": 0, "ended_at_ms": 1},
        }
        sections = {name: Section(salt="", body=msgspec.to_builtins(body)) for name, body in bodies.items()}
        receipt = Receipt(format="f", id=attempt_id, at_ms=1, digests={}, sections=sections, leaf_index=len(self.receipts))
        self.receipts[attempt_id] = receipt
        return receipt

    def close(self, request_id: str, usage: Usage, outcome: Outcome, lot: LotSection | None = None) -> Receipt:
        with self.lock:
            self._called("close", request_id)
            if request_id in self.receipts:
                return self.receipts[request_id]
            self.lots += [lot] if lot is not None else []
            return self._end(request_id, usage, outcome, "")

    def void(self, request_id: str, reason: str) -> Receipt:
        with self.lock:
            self._called("void", request_id)
            if request_id not in self.attempts:
                raise UnknownHoldError("no such attempt", "open it")
            known = self.receipts.get(request_id)
            if known is not None and known.outcome != "void":
                raise HoldCapturedError("it was captured", "keep it")
            return known or self._end(request_id, Usage(), "void", reason)

    def find(self, request_id: str) -> Receipt | None:
        if "find" in self.down:
            raise StorageError("the database cannot be read now", "check the disk")
        return self.receipts.get(request_id)

    def outcomes(self) -> list[str]:
        return [receipt.outcome for receipt in self.receipts.values()]

    def open_attempts(self) -> list[str]:
        return [attempt for attempt in self.attempts if attempt not in self.receipts]


class FakeEngine:
    """Scores an image by the mean of its pixels / 255; `failing` is raised instead; `answer` is given instead."""

    def __init__(self, artefact: bytes) -> None:
        self.artefact = artefact
        self.failing: BaseException | None = None
        self.answer: tuple[Any, Any] | None = None
        self.delay_s = 0.0
        self.release = threading.Event()
        self.release.set()
        self.calls = 0
        self.closed = False

    def heats(self, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return np.stack([np.full((2, 2), float(image.mean()) / 255, dtype=np.float32) for image in images])

    def judged(self, images: list[NDArray[np.uint8]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        self.calls += 1
        time.sleep(self.delay_s)
        assert self.release.wait(10)
        if self.failing is not None:
            raise self.failing
        if self.answer is not None:
            return self.answer
        scores = np.array([float(image.mean()) / 255 for image in images])
        return scores, np.where(scores <= 0.25, 0, np.where(scores >= 0.75, 1, 2)).astype(np.int64)

    def close(self) -> None:
        self.closed = True


class FakeGate:
    """Certificates by digest, with an expiry; `refusal` is raised instead."""

    def __init__(self, clock: SetClock, artefact_digest: str) -> None:
        self.certified = Certified(
            certificate_digest="sha256:" + "c" * 64, artefact_digest=artefact_digest, decoder=DECODER, expires_s=clock.now_s() + 1000
        )
        self.refusal: Exception | None = None
        self.checks = 0

    def check(self, deployment: Deployment, tier: str, now_s: float) -> Certified:
        self.checks += 1
        if self.refusal is not None:
            raise self.refusal
        if now_s >= self.certified.expires_s:
            raise CertificateExpiredError("the certificate's validity is over", "certify again")
        return self.certified


class FakeKeys:
    """Two keys; `down` makes the store unreachable."""

    def __init__(self) -> None:
        self.down = False

    def caller(self, bearer: str) -> Caller:
        if self.down:
            raise StorageError("the key store cannot be read", "check the disk")
        if bearer not in (KEY, "key-of-user-2"):
            raise AuthError("the key is not known here", "ask for one")
        return Caller("user-1" if bearer == KEY else "user-2", "k1")


class House:
    """A service with one deployment, `cells` version 1, and everything behind it within reach."""

    def __init__(self, folder: Path, funds_micros: int = 1_000_000_000) -> None:
        self.clock = SetClock()
        self.artefact = folder / "model.onnx"
        self.artefact.write_bytes(b"certified bytes of a model")
        self.digest = "sha256:" + hashlib.sha256(self.artefact.read_bytes()).hexdigest()
        self.gate = FakeGate(self.clock, self.digest)
        self.keys = FakeKeys()
        self.meter = FakeMeter(funds_micros)
        self.engines: list[FakeEngine] = []
        self.registry = Registry(self.gate, self._engine, self.clock, DECODERS)
        self.service = Service(self.registry, self.keys, self.meter, self.clock, "0.1.0")
        self.deployment = Deployment(
            name="cells",
            version="1",
            artefact_digest=self.digest,
            certificate_digest=self.gate.certified.certificate_digest,
            site="line-1",
            tier="T2",
            price_id="price-1",
            split_id="split-1",
            provider="compute-1",
            decoder=DECODER,
            lo=0.25,
            hi=0.75,
        )

    def _engine(self, artefact: bytes) -> FakeEngine:
        self.engines.append(FakeEngine(artefact))
        return self.engines[-1]

    @property
    def engine(self) -> FakeEngine:
        return self.engines[-1]

    def loaded(self) -> House:
        self.registry.load(self.deployment, self.artefact)
        return self


def grey(value: int, side: int = 16) -> NDArray[np.uint8]:
    return np.full((side, side, 3), value, dtype=np.uint8)
