"""Everything that can go wrong, as one tree.

::

    BulkError
    ├── ConfigError                 a setting is wrong; the daemon does not start
    ├── RequestError                the API's client has to change the request
    │   ├── BadRequest, RequestTimeout
    │   ├── InvalidRequest, UnsupportedMedia, TooLarge
    │   ├── Unauthorized, ProtectedMode
    │   └── NoSuchBatch, NoFilePort, TaskConflict, NotRetryable, NotUndelivered
    ├── Unavailable                 it may pass: the API's client tries again later
    │   ├── TooManyConnections
    │   ├── QueueUnavailable, QueueFull, DiskFull, Stopping
    └── MemberError                 one URL could not be put into the archive

``code`` is what users see and may rely on, ``status`` the HTTP answer, ``retry``
says whether trying the same again can help.
"""

from http import HTTPStatus


class BulkError(Exception):
    """Base class of all our errors."""

    code = "internal"
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    retry = False


class ConfigError(BulkError):
    """A setting is unknown, unreadable or out of range."""

    code = "config"


class RequestError(BulkError):
    """The request cannot be served as it is."""

    code = "bad_request"
    status = HTTPStatus.BAD_REQUEST


class BadRequest(RequestError):
    """Not HTTP as RFC 9112 has it, or what two servers might read differently."""


class RequestTimeout(RequestError):
    """The request did not come in time."""

    code = "request_timeout"
    status = HTTPStatus.REQUEST_TIMEOUT
    retry = True


class InvalidRequest(RequestError):
    """The body is not what the API asks for; the message names the field."""

    code = "invalid_request"


class UnsupportedMedia(RequestError):
    """The body is not JSON."""

    code = "unsupported_media_type"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class TooLarge(RequestError):
    """The body is larger than ``max_body``."""

    code = "body_too_large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class Unauthorized(RequestError):
    """No bearer token, or one that is not known."""

    code = "unauthorized"
    status = HTTPStatus.UNAUTHORIZED


class ProtectedMode(RequestError):
    """No tokens are set up, and the client is not on this machine."""

    code = "protected_mode"
    status = HTTPStatus.FORBIDDEN


class NoSuchBatch(RequestError):
    """No batch has this id (any more)."""

    code = "no_such_batch"
    status = HTTPStatus.NOT_FOUND


class NoFilePort(RequestError):
    """This node does not serve files."""

    code = "no_file_port"
    status = HTTPStatus.NOT_FOUND


class TaskConflict(RequestError):
    """This id belongs to a batch with another body."""

    code = "task_conflict"
    status = HTTPStatus.CONFLICT


class NotRetryable(RequestError):
    """The batch has not ended, or nothing of it is missing."""

    code = "not_retryable"
    status = HTTPStatus.CONFLICT


class NotUndelivered(RequestError):
    """The last callback of the batch has not failed: there is none, or none yet, or it arrived."""

    code = "not_undelivered"
    status = HTTPStatus.CONFLICT


class Unavailable(BulkError):
    """It cannot be done now and may work later.

    :param retry_after: seconds that the client should wait
    """

    code = "unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry = True

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyConnections(Unavailable):
    """This client has as many connections as ``per_address`` allows."""

    code = "too_many_connections"
    status = HTTPStatus.TOO_MANY_REQUESTS


class QueueUnavailable(Unavailable):
    """Redis does not answer, or not in time."""

    code = "queue_unavailable"


class QueueFull(Unavailable):
    """As many members wait as ``queue_cap`` allows, or Redis has no memory left."""

    code = "queue_full"


class DiskFull(Unavailable):
    """The disk is nearly full; batches that were taken in go on as it empties."""

    code = "disk_full"
    status = HTTPStatus.INSUFFICIENT_STORAGE


class Stopping(Unavailable):
    """The daemon is on its way out."""

    code = "stopping"


class MemberError(BulkError):
    """One member was not fetched; ``code`` and ``retry`` differ from case to case.

    :param code: one of :data:`MEMBER_CODES`
    """

    status = HTTPStatus.BAD_GATEWAY

    def __init__(self, code: str, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retry = MEMBER_CODES[code]
        self.retry_after = retry_after


#: What can become of a member that is not in the archive -> can another try help?
MEMBER_CODES = {
    "bad_url": False,
    "dns_failed": True,
    "dns_timeout": True,
    "address_refused": False,
    "port_refused": False,
    "connect_failed": True,
    "connect_timeout": True,
    "tls_failed": False,
    "tls_timeout": True,
    "proxy_failed": True,
    "header_timeout": True,
    "headers_too_large": False,
    "idle_timeout": True,
    "too_slow": True,
    "member_timeout": False,
    "connection_lost": True,
    "http_error": False,  # an answer that will not change: 4xx
    "http_throttled": True,  # 429, or 503 with a Retry-After
    "http_unavailable": True,  # 408, 425 and most of 5xx
    "too_many_redirects": False,
    "bad_response": False,
    "bad_range": True,  # what was to continue an earlier attempt does not; the next starts afresh
    "content_encoded": False,
    "body_short": True,
    "body_long": False,
    "too_large": False,
    "checksum_mismatch": False,
    "batch_failed": False,  # not tried any more: the batch's policy cannot be met
    "batch_timeout": False,
}
