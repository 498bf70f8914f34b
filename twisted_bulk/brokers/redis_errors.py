"""Errors of Redis that may pass by themselves."""

import re

#: Redis 6.2 puts a script's error behind words of its own.
_TROUBLE = re.compile(r"(?:^|-)(OOM|LOADING|BUSY|READONLY|MASTERDOWN|MISCONF|NOREPLICAS)\b")


def trouble_of(error: str) -> str:
    """The word for what is wrong; empty: the error does not pass by itself."""
    found = _TROUBLE.search(error)
    return found[1] if found else ""
