"""Sizes and durations, as people write them.

Each raises ValueError when the text is wrong. The error's message says what was expected.
"""

import re

_SCALE = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_SCALE |= {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def size(text: str) -> int:
    """Bytes: ``200k`` is 200,000 and ``200Ki`` 204,800."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(|k|M|G|T|Ki|Mi|Gi|Ti)B?", text)
    if not match:
        raise ValueError("a number of bytes such as 200000, 200k or 4Gi")
    found = float(match[1]) * _SCALE[match[2]]
    if found > 10**18:
        raise ValueError("at most 10^18 bytes")
    return int(found)


def duration(text: str) -> float:
    """Seconds: ``90``, ``1.5h``, ``7d``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(|s|m|h|d|w)", text)
    if not match:
        raise ValueError("a time such as 90, 30s, 5m, 2h or 7d")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > 10**10:
        raise ValueError("at most 10^10 seconds")
    return seconds
