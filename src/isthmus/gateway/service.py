"""The data path: key -> deployment -> certificate -> records -> hold -> engine -> capture -> durable receipt -> answer.

Promises. Nothing is dispatched before the worst case is held, and nothing is answered before its receipt is durable. Each
attempt ends in one terminal record: captured with its receipt, or void with the reason. A request id used twice with the
same content gives the same answer and one charge; with other content it is refused. A client that goes away before its
request is dispatched costs nothing; after that the work is finished, charged and receipted, and the answer is there for
a repeat of the id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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
from isthmus.contracts.inference import (
    HEAT,
    IMAGE,
    RECORDS,
    TEXT,
    VALUE_OUTPUTS,
    VERDICTS,
    ModelMetadata,
    ServerMetadata,
    TensorMetadata,
)
from isthmus.contracts.lot import LotSection
from isthmus.contracts.ports import Clock
from isthmus.contracts.receipt import Receipt
from isthmus.contracts.schema import Schema, checked_record
from isthmus.gateway.attempts import Attempts
from isthmus.gateway.flights import Flights, Reply
from isthmus.gateway.limits import IMAGES_MAX, REQUEST_CHARACTERS_MAX, REQUEST_PIXELS_MAX
from isthmus.gateway.registry import Loaded, Registry
from isthmus.gateway.wire import OUTPUT_KINDS, Answer, RecordRequest, format_answer, output_names, parse_request
from isthmus.kit.canonical import digest_of, sha256_hex
from isthmus.kit.decoders import decoded_record
from isthmus.kit.ids import new_id
from isthmus.kit.pictures import DECODER, decode
from isthmus.kit.records import RECORD_DECODER
from isthmus.kit.writing import TEXT_DECODER, decode_text

Record = NDArray[Any]
DECODERS: Mapping[str, Callable[[bytes, str, Schema | None], Record]] = {
    DECODER: lambda raw, name, schema: decode(raw, name),
    RECORD_DECODER: lambda raw, name, schema: decoded_record(raw, name, schema or Schema(columns=())),
    TEXT_DECODER: lambda raw, name, schema: decode_text(raw, name),
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
            outputs=_outputs(deployment),
            properties={
                **_taken(deployment),
                **_given(deployment),
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
            served = entry.deployment
            request = parse_request(body, header_bytes, name, served.version, served.schema, _names(served))
            if request.lot is not None and served.targets:
                raise InferenceRequestError(f"{name} gives numbers, and a lot counts verdicts", "leave the parameter lot out")
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
        wanted = any(output.name == HEAT for output in request.outputs)
        if wanted and not deployment.heat:
            raise InferenceRequestError(f"{deployment.name} gives no heat map", f"ask for {', '.join(_names(deployment))}")
        if request.lot is not None and deployment.targets:
            raise InferenceRequestError(f"{deployment.name} foretells numbers, and a lot counts verdicts", "leave the lot out")
        attempt, receipt = self.attempts.begin(deployment, caller.party, request_id, digest, len(records))
        if receipt is not None:
            _check_same_artefact(receipt, deployment, request_id)
            made = _made(engine, records, deployment, wanted)
        else:
            try:
                made = _made(engine, records, deployment, wanted)
                receipt = self.attempts.close(attempt, len(records), _lot(request, made.verdicts, digest))
            except BaseException as error:
                self.attempts.void(attempt, f"{error.code}: {error.message}" if isinstance(error, IsthmusError) else type(error).__name__)
                raise
            if self._watch is not None and made.values is None:
                self._watch(deployment, records, made.verdicts)
        answer = Answer(deployment.name, deployment.version, request_id, _parameters(deployment, receipt), *made)
        return Reply(*format_answer(answer, request.outputs))


def _lot(request: RecordRequest, verdicts: tuple[str, ...], digest: str) -> LotSection | None:
    if request.lot is None:
        return None
    return LotSection(lot=request.lot, counts={verdict: verdicts.count(verdict) for verdict in VERDICTS}, request=digest)


def _input(deployment: Deployment) -> TensorMetadata:
    schema = deployment.schema
    if schema is None:
        return TensorMetadata(name=IMAGE, datatype="UINT8", shape=[-1, -1, -1, 3])
    if schema.written:
        return TensorMetadata(name=TEXT, datatype="BYTES", shape=[-1])
    steps = [] if schema.steps == 1 else [schema.steps]
    return TensorMetadata(name=RECORDS, datatype="FP32", shape=[-1, *steps, len(schema.columns)])


def _outputs(deployment: Deployment) -> list[TensorMetadata]:
    if deployment.targets:
        return [TensorMetadata(name=name, datatype="FP32", shape=[-1, len(deployment.targets)]) for name in VALUE_OUTPUTS]
    heat = [TensorMetadata(name=HEAT, datatype="FP32", shape=[-1, -1, -1])] if deployment.heat else []
    return [*(TensorMetadata(name=name, datatype=OUTPUT_KINDS[name], shape=[-1]) for name in _names(deployment)), *heat]


def _given(deployment: Deployment) -> dict[str, str]:
    """What the outputs hold, as `properties` of the metadata say it."""
    if deployment.targets:
        return {"targets": msgspec.json.encode(deployment.targets).decode(), "held_ppm": str(deployment.held_ppm)}
    return {"verdict": ", ".join(VERDICTS)}


def _taken(deployment: Deployment) -> dict[str, str]:
    """What the input holds, as `properties` of the metadata say it."""
    schema = deployment.schema
    if schema is None:
        return {"image": f"UINT8 [n, height, width, 3] pixels, or BYTES [n] image files decoded by {deployment.decoder}"}
    if schema.written:
        return {"text": f"BYTES [n] texts in any language, UTF-8, decoded by {deployment.decoder}; in JSON as they are"}
    steps = "" if schema.steps == 1 else f"{schema.steps}, "
    said = f"FP32 [n, {steps}{len(schema.columns)}] values, NaN where missing, or BYTES [n] records as JSON decoded by {deployment.decoder}"
    return {"records": said, "columns": msgspec.json.encode(schema.columns).decode()}


def decoded(request: RecordRequest, deployment: Deployment) -> list[Record]:
    """The request's records. Raises PictureError, InputError, InferenceRequestError (too many pixels or characters in all)."""
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
    if deployment.schema is not None and deployment.schema.written and sum(record.size for record in records) > REQUEST_CHARACTERS_MAX:
        raise InferenceRequestError(f"the texts have more than {REQUEST_CHARACTERS_MAX} characters in all", "send several requests")
    return records


def _answered_by(work: Callable[[list[Record]], Any], records: list[Record]) -> Any:
    """What an engine says. Raises EngineFailedError, and what it says in errors of its own."""
    try:
        return work(records)
    except ModelFileError as error:
        raise EngineFailedError(
            f"the model failed on these records: {error.message}", "send others; the operator may load it again"
        ) from error
    except IsthmusError:
        raise
    except Exception as error:  # the edge to an engine of whatever make: its failure must end the attempt, not the gateway
        raise EngineFailedError(f"the engine failed: {type(error).__name__}", "try again; the operator may load it again") from error


def judged(engine: Engine, records: list[Record]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Scores (n,) and verdicts of an engine's answer, checked. Raises EngineFailedError, and what the engine says in errors of its own."""
    scores, decided = _answered_by(engine.judged, records)
    with np.errstate(over="ignore"):
        single = np.asarray(scores, dtype=np.float32)
    numbers = np.asarray(decided)
    right = single.shape == numbers.shape == (len(records),) and bool(np.isfinite(single).all())
    if not right or not bool(np.isin(numbers, np.arange(len(VERDICTS))).all()):
        raise EngineFailedError("the engine's answer is not one finite score and one verdict for each record", "tell the operator")
    return single, tuple(VERDICTS[int(number)] for number in numbers)


def _names(deployment: Deployment) -> tuple[str, ...]:
    return VALUE_OUTPUTS if deployment.targets else output_names(deployment.link)


class _Made(NamedTuple):
    """What an engine made of a request: scores and verdicts, and heats where asked for; or values."""

    scores: NDArray[np.float32]
    verdicts: tuple[str, ...]
    values: NDArray[np.float32] | None = None
    heats: NDArray[np.float32] | None = None


def _made(engine: Engine, records: list[Record], deployment: Deployment, heat: bool) -> _Made:
    if not deployment.targets:
        return _Made(*judged(engine, records), heats=heated(engine, records) if heat else None)
    return _Made(np.zeros(0, dtype=np.float32), (), foretold(engine, records, len(deployment.targets)))


def foretold(engine: Engine, records: list[Record], targets: int) -> NDArray[np.float32]:
    """(n, 3, targets) value, low and high of an engine's answer, checked. Raises as `judged` does."""
    values = np.asarray(_answered_by(engine.foretold, records), dtype=np.float32)
    right = values.shape == (len(records), len(VALUE_OUTPUTS), targets) and bool(np.isfinite(values).all())
    if not right or bool((values[:, 0] < values[:, 1]).any()) or bool((values[:, 0] > values[:, 2]).any()):
        raise EngineFailedError(
            "the engine's answer is not one finite value within its band for each record and target", "tell the operator"
        )
    return values


def heated(engine: Engine, records: list[Record]) -> NDArray[np.float32]:
    """Heat maps (n, h, w) of an engine's answer, checked. Raises as `judged` does."""
    found = np.asarray(_answered_by(engine.heats, records), dtype=np.float32)
    if found.ndim != 3 or found.shape[0] != len(records) or not bool(np.isfinite(found).all()):
        raise EngineFailedError("the engine's answer is not one finite heat map for each record", "tell the operator")
    return found


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
        **({"held_ppm": deployment.held_ppm} if deployment.targets else {"lo": deployment.lo, "hi": deployment.hi}),
    }
