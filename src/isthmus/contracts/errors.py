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
