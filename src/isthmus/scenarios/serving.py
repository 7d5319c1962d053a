"""Uses a deployment as a caller would: Open Inference Protocol requests with image files, then receipts and the book."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from isthmus.client.http import ExchangeClient
from isthmus.contracts.errors import RemoteError
from isthmus.contracts.ports import Progress
from isthmus.contracts.receipt import Receipt
from isthmus.contracts.schema import Schema
from isthmus.gateway.wire import HEADER_LENGTH, format_request, input_name, parse_answer
from isthmus.kit.canonical import sha256_hex
from isthmus.sandbox.folder import LabelledFile
from isthmus.sandbox.ownerdata import record_of, sent_bytes
from isthmus.sandbox.rowfiles import RowFiles
from isthmus.scenarios.facts import Served, ServingFacts

CREDIT_MICROS = 10_000_000
KEY_LIFE_S = 86_400
CALLER = "sample-user"
LABELS = {1: "defect", -1: "good"}
"""Records whose outcomes are numbers have no label."""


def open_account(operator: ExchangeClient, party: str, currency: str) -> str:
    """Gives a party credit (once) and a fresh key, which ends by itself after KEY_LIFE_S; returns the bearer."""
    credit = {"id": f"credit-{party}-{currency}", "currency": currency, "amount_micros": CREDIT_MICROS, "reason": "sample credit"}
    operator.post(f"/v1/accounts/{party}/credit", credit)
    return str(operator.post("/v1/keys", {"party": party, "label": "run", "expires_in_s": KEY_LIFE_S})["bearer"])


def ask(
    caller: ExchangeClient, model: str, root: Path, file: LabelledFile, request_id: str, tables: RowFiles, schema: Schema | None = None
) -> Served:
    """One record, sent as its file, as the JSON of its rows or as the text in its row; the exchange decodes it with the certified
    decoder."""
    sent = sent_bytes(record_of(root, file, tables), file, schema)
    body, header_bytes = format_request([sent], request_id=request_id, name=input_name(schema))
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(header_bytes)}
    began = time.perf_counter()
    response = caller.send("POST", f"/v2/models/{model}/infer", content=body, headers=headers)
    latency_s = time.perf_counter() - began
    length = response.headers.get(HEADER_LENGTH)
    answer = parse_answer(response.content, None if length is None else int(length))
    return Served(
        path=root / file.path,
        label=LABELS.get(file.label),
        certainty="sure" if file.sure else "unsure",
        kind=file.kind,
        score=float(answer.scores[0]) if answer.values is None else 0.0,
        verdict=str(answer.verdicts[0]) if answer.values is None else "",
        foretold=() if answer.values is None else tuple((float(v), float(a), float(b)) for v, a, b in answer.values[0].T),
        outcomes=file.values,
        latency_s=latency_s,
        receipt_id=str(answer.parameters["receipt"]),
        charge_micros=int(answer.parameters["charge_micros"]),
    )


def refusals(url: str, model: str) -> list[tuple[str, str, str]]:
    """Refusals that are really given: no key, an unknown key."""
    found: list[tuple[str, str, str]] = []
    body, header_bytes = format_request([b"no image"], request_id=None)
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(header_bytes)}
    for token, name in (("", model), ("isk_unknown", model)):
        with ExchangeClient(url, token) as stranger:
            try:
                stranger.send("POST", f"/v2/models/{name}/infer", content=body, headers=headers)
            except RemoteError as error:
                found.append((error.as_dict()["code"], error.message, error.next_step))
    return found


def serve_samples(
    operator: ExchangeClient,
    model: str,
    currency: str,
    root: Path,
    files: Sequence[LabelledFile],
    run_id: str,
    tell: Progress,
    schema: Schema | None = None,
) -> ServingFacts:
    """Sends each record once, and collects receipts with their proofs and the book's own check.

    The request id follows from run and record, so a second run asks again for the same answers and is charged nothing more.
    """
    bearer = open_account(operator, CALLER, currency)
    served: list[Served] = []
    tables = RowFiles(root)
    with ExchangeClient(operator.address, bearer) as caller:
        for place, file in enumerate(files):
            request_id = f"{run_id[-12:]}-{sha256_hex(file.path.encode())[:16]}"
            served.append(ask(caller, model, root, file, request_id, tables, schema))
            tell(place + 1, len(files), "serving")
    receipts = tuple(msgspec.convert(operator.get(f"/v1/receipts/{s.receipt_id}"), Receipt) for s in served)
    return ServingFacts(
        served=tuple(served),
        receipts=receipts,
        refusals=tuple(refusals(operator.address, model)),
        book=operator.get("/v1/book/check"),
        caller=CALLER,
        accounts={party: operator.get(f"/v1/accounts/{party}") for party in (CALLER, "sample-compute")},
    )
