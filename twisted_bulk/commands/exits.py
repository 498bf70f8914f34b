"""Exit statuses of ``bulkwav``, and what to do next after an error."""

from typing import Any

from twisted_bulk.api.answers import Batch
from twisted_bulk.api_client.failures import (
    ClientError,
    DownloadFailed,
    NotBulkwav,
    Refused,
    Unreachable,
    WaitTimeout,
)

DONE = 0
FAILED = 1
USAGE = 2
PARTIAL = 3
TOKEN_REFUSED = 4
TEMPORARY = 5  # unreachable, or it may succeed later
NOT_FOUND = 6
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

MEANINGS = {
    DONE: "all is done",
    FAILED: "it failed, or the batch did",
    USAGE: "the command line, or a file on it, is wrong",
    PARTIAL: "the batch is partial: some members are missing",
    TOKEN_REFUSED: "the token is missing, or does not allow it",
    TEMPORARY: "the server cannot be reached, or it may succeed later",
    NOT_FOUND: "there is no such batch, or its zip is gone",
    INTERRUPTED: "Ctrl-C",
}

_HINTS = {
    "unauthorized": "give a token with --token-file, or in BULKWAV_TOKEN; a server knows its own",
    "no_such_file": "that is the port of the zips: --server is the API's",
    "not_found": "is --server right? a path behind the port is seldom needed",
    "method_not_allowed": "is --server right? a path behind the port is seldom needed",
    "protected_mode": "the server lets nobody in from elsewhere until it has --tokens",
    "forbidden": "ask for a token with another scope (submit, read or admin)",
    "no_such_batch": "bulkwav list shows the batches of this token",
    "task_conflict": "choose another --id",
    "not_retryable": "bulkwav show ID tells its state",
    "has_ended": "bulkwav delete ID removes it",
    "not_ended": "bulkwav cancel ID ends it",
    "disk_full": "the server goes on when its disk has room",
    "queue_full": "send it again later",
    "unreachable": "is the server running, and --server right?",
    "not_bulkwav": "is --server right?",
    "nothing_to_download": "bulkwav show ID tells why",
    "gone": "bulkwav retry ID, or submit it again",
    "file_exists": "choose another folder, or replace it with --force",
    "bad_zip": "fetch it again; if it stays so, tell the server's operator",
    "checksum_mismatch": "fetch it again; if it stays so, tell the server's operator",
}


class CommandError(Exception):
    """A command cannot go on.

    :param message: one line
    :param hint: what to do next, or empty
    """

    def __init__(
        self, message: str, status: int = USAGE, code: str = "usage", hint: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.hint = hint

    @property
    def shown(self) -> dict[str, Any]:
        """As a document has it."""
        about = {"code": self.code, "message": str(self), "hint": self.hint}
        return {**about, "exit": self.status}


def status_of(error: ClientError) -> int:
    """The exit status for an error of the client."""
    if isinstance(error, Refused):
        if error.status in (401, 403):
            return TOKEN_REFUSED
        if error.code.startswith("http_"):  # no answer of a bulkwav: another server is there
            return TEMPORARY
        if error.status in (404, 410):
            return NOT_FOUND
        if error.is_temporary:
            return TEMPORARY
        return FAILED if error.status == 409 else USAGE
    if isinstance(error, DownloadFailed):
        return NOT_FOUND if error.code == "gone" else FAILED
    if isinstance(error, Unreachable | NotBulkwav | WaitTimeout):
        return TEMPORARY
    return FAILED


def command_error(error: ClientError) -> CommandError:
    """An error of the client, as users see it."""
    hint = _HINTS.get(error.code, "")
    if error.code.startswith("http_"):
        hint = _HINTS["not_bulkwav"]
    if isinstance(error, Refused) and error.status == 400:
        hint = "see --help"
    if isinstance(error, Refused) and error.is_temporary and error.retry_after and not hint:
        hint = f"again in {error.retry_after:g} s"
    return CommandError(error.detail, status_of(error), error.code, hint)


def outcome(batch: Batch) -> int:
    """The exit status by how a batch ended."""
    return {"done": DONE, "partial": PARTIAL}.get(batch.status, FAILED)
