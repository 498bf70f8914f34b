"""What can go wrong in a call of the API, as a client sees it."""


class ClientError(Exception):
    """The base of all errors of the clients.

    :param message: one line for people
    """

    code = "client_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.detail = message


class Refused(ClientError):
    """The server answered with an error.

    :param status: of the answer
    :param code: of docs/errors.md, or empty where the answer is no problem of bulkwav's
    :param retry_after: seconds after which the call may succeed; None: the server named none
    """

    def __init__(
        self, status: int, code: str, detail: str, retry_after: float | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code or f"http_{status}"
        self.retry_after = retry_after

    @property
    def is_temporary(self) -> bool:
        """Whether the call may succeed later as it is."""
        return self.status == 429 or self.status >= 500


class Unreachable(ClientError):
    """The server could not be reached, or the connection broke.

    :param is_sent: the server may have got the request
    """

    code = "unreachable"

    def __init__(self, message: str, is_sent: bool = True) -> None:
        super().__init__(message)
        self.is_sent = is_sent


class NotBulkwav(ClientError):
    """What answered is no bulkwav: its answer is not one of the API."""

    code = "not_bulkwav"


class WaitTimeout(ClientError):
    """The batch had not ended in the time that the caller gave it."""

    code = "wait_timeout"


class DownloadFailed(ClientError):
    """A zip could not be fetched.

    :param code: ``nothing_to_download``, ``gone``, ``file_exists``, ``checksum_mismatch`` or
        ``bad_zip``
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BadSignature(ClientError):
    """A callback is not from this bulkwav, or too old."""

    code = "bad_signature"
