"""How the body of a response ended, beside what Twisted tells: kept with the response."""

from dataclasses import dataclass
from typing import Any


@dataclass
class Ending:
    """:param overlong: more bytes came than the response announced
    :param broken: the connection broke, and was not just closed
    """

    overlong: bool = False
    broken: bool = False


def ending_of(response: Any) -> Ending:
    """The ending of a response of Twisted's, or of one that treq has wrapped."""
    original: Any = getattr(response, "original", response)
    ending = vars(original).get("ending")
    if ending is None:
        ending = vars(original)["ending"] = Ending()
    found: Ending = ending
    return found
