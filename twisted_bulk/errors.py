"""All errors, as one tree of classes, and the codes of members and parts that fail.

::

    BulkError
    ├── ConfigError                 a setting is wrong; the daemon does not start
    ├── RequestError                the client has to change the request
    │   ├── BadRequest, RequestTimeout, NotFound, MethodNotAllowed
    │   ├── InvalidRequest, UnsupportedMedia, TooLarge
    │   ├── Unauthorized, ProtectedMode, CrossSite, Forbidden
    │   ├── NoSuchBatch, Elsewhere, NoFilePort, TaskConflict, NotRetryable, RunChanged
    │   ├── HasEnded, NotEnded
    │   ├── NotUndelivered, NotConfirmed, NoSuchBulk
    │   └── NoSuchFile, Gone, PreconditionFailed, RangeNotSatisfiable
    ├── Unavailable                 it may pass: the client tries again later
    │   ├── TooManyConnections, TooManyRequests
    │   ├── QueueUnavailable, QueueFull, QueueStopped, DiskFull, Stopping
    └── MemberError                 one URL could not be put into the archive

``code`` is the error's name for users, and does not change. ``status`` is that of the HTTP answer.
``retry`` says whether the request may succeed when it is repeated. ``who`` has to act. The first
lines of the classes stand in docs/errors.md.
"""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from twisted_bulk.error_codes import AWAY_CODES, MEMBER_CODES, THERE_CODES, Who


class BulkError(Exception):
    """A fault of bulkwav; the log has more."""

    code = "internal"
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    retry = False
    who = Who.OPERATOR


class ConfigError(BulkError):
    """A setting is unknown, unreadable or out of range."""

    code = "config"


class RequestError(BulkError):
    """The request cannot be served as it is."""

    status = HTTPStatus.BAD_REQUEST
    who = Who.CALLER


class BadRequest(RequestError):
    """The request is not HTTP (RFC 9112), or two servers might read it differently."""

    code = "bad_request"


class NotFound(RequestError):
    """The API has no call with this path."""

    code = "not_found"
    status = HTTPStatus.NOT_FOUND


class MethodNotAllowed(RequestError):
    """The path has no such method; `Allow` lists its methods."""

    code = "method_not_allowed"
    status = HTTPStatus.METHOD_NOT_ALLOWED


class RequestTimeout(RequestError):
    """The request did not come in time."""

    code = "request_timeout"
    status = HTTPStatus.REQUEST_TIMEOUT
    retry = True


class InvalidRequest(RequestError):
    """The body is wrong; the message names the field."""

    code = "invalid_request"


class UnsupportedMedia(RequestError):
    """A browser does not call the body JSON, or it is encoded in another way than gzip."""

    code = "unsupported_media_type"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class TooLarge(RequestError):
    """The body is larger than `--max-body`, or than 64 KiB on the file port."""

    code = "body_too_large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class Unauthorized(RequestError):
    """There is no bearer token, or it is not known."""

    code = "unauthorized"
    status = HTTPStatus.UNAUTHORIZED


class ProtectedMode(RequestError):
    """No tokens are set up, and the client is not on this machine, or is another site's page."""

    code = "protected_mode"
    status = HTTPStatus.FORBIDDEN
    who = Who.OPERATOR


class CrossSite(RequestError):
    """A browser sends it for a page of another site, or of a name that is not this server's."""

    code = "cross_site"
    status = HTTPStatus.FORBIDDEN


class Forbidden(RequestError):
    """The token does not allow this call."""

    code = "forbidden"
    status = HTTPStatus.FORBIDDEN


class NoSuchBatch(RequestError):
    """This token has no batch with this id, or not any more."""

    code = "no_such_batch"
    status = HTTPStatus.NOT_FOUND


class Elsewhere(RequestError):
    """Another node has the manifest; the message names it."""

    code = "on_another_node"
    status = HTTPStatus.MISDIRECTED_REQUEST


class NoFilePort(RequestError):
    """This node does not serve files."""

    code = "no_file_port"
    status = HTTPStatus.NOT_FOUND


class TaskConflict(RequestError):
    """This id belongs to a batch with another body."""

    code = "task_conflict"
    status = HTTPStatus.CONFLICT


class NotRetryable(RequestError):
    """The batch has not ended, or no member of it has failed."""

    code = "not_retryable"
    status = HTTPStatus.CONFLICT


class HasEnded(RequestError):
    """The batch has ended: it cannot be cancelled any more."""

    code = "has_ended"
    status = HTTPStatus.CONFLICT


class NotEnded(RequestError):
    """The batch has not ended: it cannot be deleted yet."""

    code = "not_ended"
    status = HTTPStatus.CONFLICT


class RunChanged(RequestError):
    """The batch was tried again since the client looked at it."""

    code = "run_changed"
    status = HTTPStatus.CONFLICT


class NoSuchBulk(RequestError):
    """There is no bulk action with this id, or none that this token may see."""

    code = "no_such_bulk"
    status = HTTPStatus.NOT_FOUND


class NotUndelivered(RequestError):
    """The last callback of the batch has not failed: there is none, or not yet, or it arrived."""

    code = "not_undelivered"
    status = HTTPStatus.CONFLICT


class NoSuchFile(RequestError):
    """There is no file under this link, and there never was one."""

    code = "no_such_file"
    status = HTTPStatus.NOT_FOUND


class Gone(RequestError):
    """The file or manifest was deleted, or has expired."""

    code = "gone"
    status = HTTPStatus.GONE


class NotConfirmed(RequestError):
    """The call ends all batches: repeat it with the `confirm` that the message names."""

    code = "not_confirmed"
    status = HTTPStatus.CONFLICT


class PreconditionFailed(RequestError):
    """The file is not the one that `If-Match` or `If-Unmodified-Since` asks for."""

    code = "precondition_failed"
    status = HTTPStatus.PRECONDITION_FAILED


class RangeNotSatisfiable(RequestError):
    """The file has no byte of the range; `Content-Range` says how long it is."""

    code = "range_not_satisfiable"
    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


class Unavailable(BulkError):
    """It cannot be done now, and may succeed later.

    :param retry_after: seconds that the client should wait
    """

    code = "unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry = True
    who = Who.NOBODY

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyConnections(Unavailable):
    """This client has as many connections as one may have (`--per-address` on the file port)."""

    code = "too_many_connections"
    status = HTTPStatus.TOO_MANY_REQUESTS
    who = Who.CALLER


class TooManyRequests(Unavailable):
    """More requests a second than `--request-rate` allows one token or address."""

    code = "too_many_requests"
    status = HTTPStatus.TOO_MANY_REQUESTS
    who = Who.CALLER


class QueueUnavailable(Unavailable):
    """The queue (Redis) does not answer, or not in time."""

    code = "queue_unavailable"
    who = Who.OPERATOR


class QueueFull(Unavailable):
    """As many members are unfinished as `--queue-cap` allows, or Redis has no memory left."""

    code = "queue_full"
    queued: Sequence[Any] = ()  # of several jobs, what became of those that were queued before


class QueueStopped(Unavailable):
    """The queue is stopped (`PATCH /v1/queue`): batches are taken in, and none is begun."""

    code = "queue_stopped"
    who = Who.OPERATOR


class DiskFull(Unavailable):
    """The disk is nearly full; batches that were taken in go on as it empties."""

    code = "disk_full"
    status = HTTPStatus.INSUFFICIENT_STORAGE
    who = Who.OPERATOR


class Stopping(Unavailable):
    """The daemon is stopping."""

    code = "stopping"


class MemberError(BulkError):
    """One member could not be fetched; ``code`` and ``retry`` are those of :data:`MEMBER_CODES`.

    :param code: one of :data:`MEMBER_CODES`
    :param retry_after: seconds that the server asked to wait
    :param answered: the HTTP status, if there was one
    :param stale: a kept connection was closed before the answer; this says nothing about the member
    :param ours: this node did not try it in time; this says nothing about the host
    :param retry: whether another try may succeed; None: as the code says
    """

    status = HTTPStatus.BAD_GATEWAY

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        retry_after: float | None = None,
        answered: int = 0,
        stale: bool = False,
        ours: bool = False,
        retry: bool | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retry = MEMBER_CODES[code].retry if retry is None else retry
        self.retry_after = retry_after
        self.answered = answered
        self.stale = stale
        self.ours = ours

    @property
    def tells_of_host(self) -> bool:
        """Whether the host seems to be away: other members of it would probably fail now, too.

        A host that asks to wait is not away.
        """
        if self.stale or self.ours or self.code == "http_throttled":
            return False
        return self.code in AWAY_CODES or self.answered in (502, 503, 504)

    @property
    def shows_host(self) -> bool:
        """Whether the error shows that the host is not away."""
        return not self.tells_of_host and (self.answered > 0 or self.code in THERE_CODES)


def catalogue() -> Iterator[type[BulkError]]:
    """All classes of errors with a code, apart from MemberError."""
    waiting: list[type[BulkError]] = [BulkError]
    while waiting:
        found = waiting.pop(0)
        if found is not MemberError:
            if "code" in vars(found):
                yield found
            waiting += found.__subclasses__()
