"""One tree of errors. Each says what happened, why, and what to do next, under a stable code.

A class names its `code` (kebab-case, never reused), the HTTP status it has at the API, and the process exit code it has
in the CLI. `docs/reference/errors.md` lists all of them and a test holds that list to this file.
"""

from __future__ import annotations

from typing import ClassVar


class IsthmusError(Exception):
    """Base of every error that a user may see.

    message: what happened and why, one sentence. next_step: what to do now, one sentence or clause.
    """

    code: ClassVar[str] = "isthmus-error"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message} ({self.next_step})" if self.next_step else self.message

    def as_dict(self) -> dict[str, str]:
        """The error as the API's JSON body shows it."""
        return {"code": self.code, "message": self.message, "next": self.next_step}


# Input that a person or a client gave.


class InputError(IsthmusError):
    """What was given cannot be used as it is."""

    code = "bad-input"
    http_status = 400
    exit_code = 2


class NotFoundError(IsthmusError):
    """The named thing does not exist here."""

    code = "not-found"
    http_status = 404
    exit_code = 2


class ConflictError(IsthmusError):
    """The same id was used before for something else, or the state does not allow the step."""

    code = "conflict"
    http_status = 409


class SettingError(InputError):
    """A setting has a value that cannot be used."""

    code = "bad-setting"


class DocumentError(InputError):
    """A contract document is malformed: unknown field, wrong type, or not canonical."""

    code = "bad-document"


class PictureError(InputError):
    """An image file cannot be decoded, or is larger than the limits allow."""

    code = "bad-picture"


class ModelFileError(InputError):
    """A weights or model file is missing, cut short, or holds what it should not."""

    code = "bad-model-file"


class FolderError(InputError):
    """A data folder has not the layout that was asked for."""

    code = "bad-folder"


class PackageError(InputError):
    """A scenario package has faults, is not what its lock says, or is in an archive that was not made here."""

    code = "bad-package"


# Trust.


class SignatureError(IsthmusError):
    """A signature is missing, wrong, or made by a key that is not trusted here."""

    code = "bad-signature"
    http_status = 403


# The machine under it.


class StorageError(IsthmusError):
    """The state folder or database cannot be read or written now."""

    code = "storage-unavailable"
    http_status = 503


class UnreachableError(IsthmusError):
    """A party of the conversation did not answer."""

    code = "unreachable"
    http_status = 502


# The data path.


class InferenceRequestError(InputError):
    """An inference request does not follow the Open Inference Protocol, or what this model takes."""

    code = "bad-inference-request"


class BodyTooLargeError(InputError):
    """A request's body has more bytes than are read."""

    code = "body-too-large"
    http_status = 413


class BodyTooSlowError(InputError):
    """A request's body did not arrive in time."""

    code = "body-too-slow"
    http_status = 408


class BodyEncodingError(InputError):
    """A request's body is compressed, or of a media type that is not read here."""

    code = "unsupported-encoding"
    http_status = 415


class MissingKeyError(IsthmusError):
    """A request carries no bearer key."""

    code = "missing-key"
    http_status = 401


class UnknownModelError(NotFoundError):
    """No deployment has this name or version."""

    code = "unknown-model"


class ArtefactEditedError(IsthmusError):
    """The model's bytes on disk are not those that were certified."""

    code = "artefact-edited"
    http_status = 403


class DeploymentStoppedError(IsthmusError):
    """The deployment exists and does not serve: it was never loaded, was refused, or was withdrawn."""

    code = "deployment-stopped"
    http_status = 503


class DeploymentRetiredError(IsthmusError):
    """The deployment was retired: it takes no more requests; its history and receipts stay."""

    code = "deployment-retired"
    http_status = 410


class EngineFailedError(IsthmusError):
    """The engine gave no usable answer; nothing is charged."""

    code = "engine-failed"
    http_status = 502


class BusyError(IsthmusError):
    """All workers are busy and the queue is full; nothing was done and nothing is charged."""

    code = "busy"
    http_status = 429


class RequestReusedError(ConflictError):
    """A request id was used before with other content."""

    code = "request-id-reused"


class RequestOpenError(ConflictError):
    """A request with this id is being worked on."""

    code = "request-in-progress"


# The sandbox: owners' nodes and the jobs that they take part in.


class RefusedError(IsthmusError):
    """A node will not take part in a job; `clause` names the term of the agreement, or the rule, that forbids it."""

    code = "refused-by-node"
    http_status = 409
    exit_code = 1

    def __init__(self, clause: str, message: str, next_step: str = "") -> None:
        super().__init__(message, next_step)
        self.clause = clause

    def as_dict(self) -> dict[str, str]:
        return {**super().as_dict(), "clause": self.clause}


class AgreementError(InputError):
    """An agreement asks for what cannot be kept, or there is none for what was asked."""

    code = "bad-agreement"


class JobClosedError(ConflictError):
    """A job is finished, failed, or was asked anew, so that it takes nothing more."""

    code = "job-closed"


class LogTamperedError(SignatureError):
    """An owner's log was edited, cut or put in another order."""

    code = "log-tampered"


# The book: money, units, receipts.


class AmountError(InputError):
    """An amount is negative, too large, or entries do not sum to zero."""

    code = "bad-amount"


class InsufficientFundsError(IsthmusError):
    """The account has less left than the worst case of this request costs."""

    code = "insufficient-funds"
    http_status = 402


class UnknownPriceError(IsthmusError):
    """No such price version, or it is not in effect yet."""

    code = "unknown-price"
    http_status = 422


class UnknownSplitError(IsthmusError):
    """No such version of a split rule."""

    code = "unknown-split"
    http_status = 422


class UnknownHoldError(NotFoundError):
    """No hold or attempt of this id was ever opened."""

    code = "unknown-hold"


class HoldCapturedError(ConflictError):
    """The hold has ended before: it was captured."""

    code = "hold-already-captured"


class HoldVoidedError(ConflictError):
    """The hold has ended before: it was voided."""

    code = "hold-already-voided"


class HoldExpiredError(ConflictError):
    """The hold has ended before: it expired."""

    code = "hold-already-expired"


class CaptureTooLargeError(ConflictError):
    """A capture asks for more than was held."""

    code = "capture-exceeds-hold"


class ReceiptError(IsthmusError):
    """A receipt, statement or proof does not verify."""

    code = "receipt-does-not-verify"
    http_status = 422


class BookError(IsthmusError):
    """The book breaks one of its own invariants."""

    code = "book-does-not-balance"


# Access and market.


class AuthError(IsthmusError):
    """No key was given, or it is unknown, expired or revoked."""

    code = "not-authenticated"
    http_status = 401


class ForbiddenError(IsthmusError):
    """The key is good, but does not allow this."""

    code = "forbidden"
    http_status = 403


class OfferError(InputError):
    """An offer of compute is malformed or names what is unknown here."""

    code = "bad-offer"


# Foundry's engines.


class EngineError(IsthmusError):
    """The worker process that runs a model died, or could not be started."""

    code = "engine-unavailable"
    http_status = 503


class EngineTimeoutError(EngineError):
    """The worker process did not answer in time; it was ended and starts again with the next request."""

    code = "engine-timeout"
    http_status = 504


# Assurance: why an artefact may not serve, one class a reason.


class BarsNotMetError(IsthmusError):
    """The evidence does not meet the bars that were signed before the run, so no certificate is issued."""

    code = "bars-not-met"
    http_status = 409
    exit_code = 3


class CertificateError(IsthmusError):
    """The artefact may not serve under this certificate."""

    code = "certificate-refused"
    http_status = 403
    exit_code = 3


class CertificateMissingError(CertificateError):
    """There is no certificate."""

    code = "certificate-missing"


class CertificateIssuerError(CertificateError):
    """No key that is trusted here signed the certificate."""

    code = "certificate-issuer-unknown"


class CertificateEditedError(CertificateError):
    """The certificate's bytes are not those that were signed, or are no certificate."""

    code = "certificate-edited"


class CertificateEarlyError(CertificateError):
    """The certificate is not valid yet."""

    code = "certificate-not-yet-valid"


class CertificateExpiredError(CertificateError):
    """The certificate's validity is over."""

    code = "certificate-expired"


class CertificateRevokedError(CertificateError):
    """The certificate was withdrawn by its issuer."""

    code = "certificate-revoked"


class CertificateTierError(CertificateError):
    """The certificate is for a lower risk tier than is asked for."""

    code = "certificate-wrong-tier"


class CertificateArtefactError(CertificateError):
    """The artefact is not the one that was certified."""

    code = "certificate-wrong-artefact"


class CertificateDecoderError(CertificateError):
    """Images are decoded in another way than the one that was certified."""

    code = "certificate-wrong-decoder"


# The console.


class ConsoleForbiddenError(IsthmusError):
    """The console's pages were asked for from another machine, or under another name than this machine's own."""

    code = "console-only-here"
    http_status = 403


# Runs.


class JobFailedError(IsthmusError):
    """A job of a run ended without a result: an owner did not answer in time, or its process ended."""

    code = "job-failed"
    http_status = 409


class JobRefusedError(JobFailedError):
    """An owner's node refused a job by a clause of its agreement."""

    code = "job-refused"


class ExchangeStateError(IsthmusError):
    """The exchange cannot start on this state folder: another process holds it, or its port is taken."""

    code = "exchange-not-started"
    http_status = 503


# The client of another process.


class RemoteError(IsthmusError):
    """The exchange refused; carries the code it gave."""

    code = "exchange-refused"
    http_status = 502

    def __init__(self, status: int, code: str, message: str, next_step: str) -> None:
        super().__init__(message, next_step)
        self.status = status
        self.remote_code = code

    def as_dict(self) -> dict[str, str]:
        return {"code": self.remote_code, "message": self.message, "next": self.next_step}
