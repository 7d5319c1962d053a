"""The data path: key -> deployment -> certificate -> records -> hold -> engine -> capture -> durable receipt -> answer.

Promises. Nothing is dispatched before the worst case is held, and nothing is answered before its receipt is durable. Each
attempt ends in one terminal record: captured with its receipt, or void with the reason. A request id used twice with the
same content gives the same answer and one charge; with other content it is refused. A client that goes away before its
request is dispatched costs nothing; after that the work is finished, charged and receipted, and the answer is there for
a repeat of the id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.deployment import Caller, Deployment, Engine, KeyRing, Meter
from isthmus.contracts.errors import (
    EngineFailedError,
    InferenceRequestError,
    IsthmusError,
    MissingKeyError,
    ModelFileError,
    RequestReusedError,
)
from isthmus.contracts.inference import IMAGE, RECORDS, SCORE, VERDICT, VERDICTS, ModelMetadata, ServerMetadata, TensorMetadata
from isthmus.contracts.lot import LotSection
from isthmus.contracts.ports import Clock
from isthmus.contracts.receipt import Receipt
from isthmus.contracts.schema import Schema, checked_record
from isthmus.gateway.attempts import Attempts
from isthmus.gateway.flights import Flights, Reply
from isthmus.gateway.limits import IMAGES_MAX, REQUEST_PIXELS_MAX
from isthmus.gateway.registry import Loaded, Registry
from isthmus.gateway.wire import Answer, RecordRequest, format_answer, parse_request
from isthmus.kit.canonical import digest_of, sha256_hex
from isthmus.kit.ids import new_id
from isthmus.kit.pictures import DECODER, decode
from isthmus.kit.records import RECORD_DECODER, decode_record

Record = NDArray[Any]
DECODERS: Mapping[str, Callable[[bytes, str, Schema | None], Record]] = {
    DECODER: lambda raw, name, schema: decode(raw, name),
    RECORD_DECODER: lambda raw, name, schema: decode_record(raw, name, schema or Schema(columns=())),
}
"""Named decoders of this release."""

Watch = Callable[[Deployment, list[Record], tuple[str, ...]], None]
EXTENSIONS = ("binary_tensor_data",)
_BEARER = "bearer "


class Service:
    """Serves loaded deployments. All methods block; call them from worker threads. Safe from several at once.

    release: the server's version, as GET /v2 tells it. watch: called with each request that was answered and receipted; it must neither
    wait nor raise.
    """

    def __init__(self, registry: Registry, keys: KeyRing, meter: Meter, clock: Clock, release: str, watch: Watch | None = None) -> None:
        self.registry = registry
        self.attempts = Attempts(meter)
        self._keys = keys
        self._clock = clock
        self._release = release
        self._watch = watch
        self._flights = Flights()

    def caller(self, authorization: str | None) -> Caller:
        """Who an Authorization header stands for. Raises MissingKeyError, and what the key ring raises."""
        if authorization is None or not authorization.lower().startswith(_BEARER) or not authorization[len(_BEARER) :].strip():
            raise MissingKeyError("the request has no bearer key", "send Authorization: Bearer KEY")
        return self._keys.caller(authorization[len(_BEARER) :].strip())

    def server(self) -> ServerMetadata:
        """What GET /v2 says."""
        return ServerMetadata(name="isthmus", version=self._release, extensions=list(EXTENSIONS))

    def model(self, name: str, version: str | None) -> ModelMetadata:
        """What GET /v2/models/NAME says. Raises UnknownModelError."""
        deployment = self.registry.find(name, version).deployment
        return ModelMetadata(
            name=deployment.name,
            versions=self.registry.versions(name),
            platform="onnx_onnxv1",
            inputs=[_input(deployment)],
            outputs=[TensorMetadata(name=SCORE, datatype="FP32", shape=[-1]), TensorMetadata(name=VERDICT, datatype="BYTES", shape=[-1])],
            properties={
                **_taken(deployment),
                "verdict": ", ".join(VERDICTS),
                "images_max": str(IMAGES_MAX),
                "site": deployment.site,
                "tier": deployment.tier,
                "artefact": deployment.artefact_digest,
                "certificate": deployment.certificate_digest,
                "price": deployment.price_id,
                "split": deployment.split_id,
            },
        )

    def ready(self, name: str | None = None, version: str | None = None) -> bool:
        """Whether the named deployment (or, without a name, every one) would serve now. Raises UnknownModelError."""
        entries = self.registry.serving() if name is None else (self.registry.find(name, version),)
        return all(self.registry.ready(entry) for entry in entries)

    def infer(self, caller: Caller, name: str, version: str | None, body: bytes, header_bytes: int | None) -> Reply:
        """Answers one inference request. Raises IsthmusError; then nothing was charged, unless an earlier try of the same id was."""
        with self.registry.leased(name, version) as entry:
            self.registry.admit(entry)
            request = parse_request(body, header_bytes, name, entry.deployment.version, entry.deployment.schema)
            digest = digest_of([name, version or "", -1 if header_bytes is None else header_bytes, sha256_hex(body)])
            if request.request_id is None:
                return self._answered(entry, caller, request, new_id("req", self._clock.now_s()), digest)
            request_id = request.request_id
            work = lambda: self._answered(entry, caller, request, request_id, digest)  # noqa: E731
            return self._flights.once((caller.party, request_id), digest, work)

    def _answered(self, entry: Loaded, caller: Caller, request: RecordRequest, request_id: str, digest: str) -> Reply:
        deployment = entry.deployment
        records = decoded(request, deployment)
        engine = self.registry.engine(entry)
        attempt, receipt = self.attempts.begin(deployment, caller.party, request_id, digest, len(records))
        if receipt is not None:
            _check_same_artefact(receipt, deployment, request_id)
            scores, verdicts = judged(engine, records)
        else:
            try:
                scores, verdicts = judged(engine, records)
                receipt = self.attempts.close(attempt, len(records), _lot(request, verdicts, digest))
            except BaseException as error:
                self.attempts.void(attempt, f"{error.code}: {error.message}" if isinstance(error, IsthmusError) else type(error).__name__)
                raise
            if self._watch is not None:
                self._watch(deployment, records, verdicts)
        answer = Answer(deployment.name, deployment.version, request_id, _parameters(deployment, receipt), scores, verdicts)
        return Reply(*format_answer(answer, request.outputs))


def _lot(request: RecordRequest, verdicts: tuple[str, ...], digest: str) -> LotSection | None:
    if request.lot is None:
        return None
    return LotSection(lot=request.lot, counts={verdict: verdicts.count(verdict) for verdict in VERDICTS}, request=digest)


def _input(deployment: Deployment) -> TensorMetadata:
    schema = deployment.schema
    if schema is None:
        return TensorMetadata(name=IMAGE, datatype="UINT8", shape=[-1, -1, -1, 3])
    steps = [] if schema.steps == 1 else [schema.steps]
    return TensorMetadata(name=RECORDS, datatype="FP32", shape=[-1, *steps, len(schema.columns)])


def _taken(deployment: Deployment) -> dict[str, str]:
    """What the input holds, as `properties` of the metadata say it."""
    schema = deployment.schema
    if schema is None:
        return {"image": f"UINT8 [n, height, width, 3] pixels, or BYTES [n] image files decoded by {deployment.decoder}"}
    steps = "" if schema.steps == 1 else f"{schema.steps}, "
    said = f"FP32 [n, {steps}{len(schema.columns)}] values, NaN where missing, or BYTES [n] records as JSON decoded by {deployment.decoder}"
    return {"records": said, "columns": msgspec.json.encode(schema.columns).decode()}


def decoded(request: RecordRequest, deployment: Deployment) -> list[Record]:
    """The request's records. Raises PictureError, InputError, InferenceRequestError (too many pixels in all)."""
    if request.files is None:
        values = [] if request.values is None else list(request.values)
        schema = deployment.schema
        return values if schema is None else [checked_record(schema, one, f"record {place}") for place, one in enumerate(values)]
    decoder = DECODERS[deployment.decoder]
    what = "image" if deployment.schema is None else "record"
    records: list[Record] = []
    pixels = 0
    for number, file in enumerate(request.files):
        record = decoder(file, f"{what} {number}", deployment.schema)
        pixels += record.shape[0] * record.shape[1] if deployment.schema is None else 0
        if pixels > REQUEST_PIXELS_MAX:
            raise InferenceRequestError(f"the images have more than {REQUEST_PIXELS_MAX} pixels in all", "send several requests")
        records.append(record)
    return records


def judged(engine: Engine, records: list[Record]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Scores (n,) and verdicts of an engine's answer, checked. Raises EngineFailedError, and what the engine says in errors of its own."""
    try:
        scores, decided = engine.judged(records)
    except ModelFileError as error:
        raise EngineFailedError(
            f"the model failed on these records: {error.message}", "send others; the operator may load it again"
        ) from error
    except IsthmusError:
        raise
    except Exception as error:  # the edge to an engine of whatever make: its failure must end the attempt, not the gateway
        raise EngineFailedError(f"the engine failed: {type(error).__name__}", "try again; the operator may load it again") from error
    with np.errstate(over="ignore"):
        single = np.asarray(scores, dtype=np.float32)
    numbers = np.asarray(decided)
    right = single.shape == numbers.shape == (len(records),) and bool(np.isfinite(single).all())
    if not right or not bool(np.isin(numbers, np.arange(len(VERDICTS))).all()):
        raise EngineFailedError("the engine's answer is not one finite score and one verdict for each record", "tell the operator")
    return single, tuple(VERDICTS[int(number)] for number in numbers)


def _check_same_artefact(receipt: Receipt, deployment: Deployment, request_id: str) -> None:
    if receipt.sections["certificate"].body["artefact_digest"] != deployment.artefact_digest:
        raise RequestReusedError(
            f"the request {request_id!r} was answered and charged by another version of {deployment.name}", "use a new id for a new answer"
        )


def _parameters(deployment: Deployment, receipt: Receipt) -> dict[str, str | int | float | bool]:
    return {
        "receipt": receipt.id,
        "certificate": deployment.certificate_digest,
        "artefact": deployment.artefact_digest,
        "site": deployment.site,
        "inferences": receipt.usage.inferences,
        "charge_micros": receipt.charge_micros,
        "currency": str(receipt.sections["price"].body["price"]["currency"]),
        "price": deployment.price_id,
        "lo": deployment.lo,
        "hi": deployment.hi,
    }
