"""How the body of a response ended, as far as Twisted does not tell it."""

from dataclasses import dataclass
from typing import Any


@dataclass
class Ending:
    """The end of a body.

    :param overlong: more bytes came than the response announced
    :param broken: the connection was lost with an error, and not closed
    """

    overlong: bool = False
    broken: bool = False


def ending_of(response: Any) -> Ending:
    """The ending of a response, which treq may have wrapped. It is kept in the response."""
    original: Any = getattr(response, "original", response)
    ending = vars(original).get("ending")
    if ending is None:
        ending = vars(original)["ending"] = Ending()
    found: Ending = ending
    return found
