"""The replies to callbacks, and what went wrong with those without one. Pure."""

import re

from twisted.python.failure import Failure
from twisted.web.iweb import IResponse

from twisted_bulk.errors import MemberError
from twisted_bulk.http_client.response import explain

#: Codes of callbacks that were refused before the host was asked: another try would end in the same
#: way.
FINAL_CODES = frozenset(("address_refused", "port_refused", "bad_url"))
MAX_SAID_BYTES = 150  # of a receiver's words


def is_working(response: IResponse) -> bool:
    """Whether the receiver works, also when it refused the callback."""
    code: int = response.code
    return code < 500 and code != 429


def refusal(response: IResponse, begin: bytes) -> str:
    """A status that is no success, and the beginning of what the receiver says, in one line.

    :param begin: of the body; markup is left out
    """
    text = re.sub(r"<[^<>]*>?", " ", begin.decode("utf-8", "ignore"))
    words = " ".join(word for word in text.split() if word.isprintable())
    said = words.encode()[:MAX_SAID_BYTES].decode("utf-8", "ignore")
    return f"HTTP {response.code}: {said}" if said else f"HTTP {response.code}"


def is_final(problem: BaseException) -> bool:
    """Whether the callback was refused before the host was asked."""
    return isinstance(problem, MemberError) and problem.code in FINAL_CODES


def brief(problem: BaseException | None) -> str:
    """The code and the detail of an error, in one line; empty for None."""
    if isinstance(problem, Exception) and not isinstance(problem, MemberError):
        problem = explain(Failure(problem))
    return f"{problem.code}: {problem.detail}" if isinstance(problem, MemberError) else ""
