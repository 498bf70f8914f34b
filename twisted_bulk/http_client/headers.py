"""Headers of requests that are sent as they were spelled."""

from collections.abc import Iterator, Sequence

from twisted.web.http_headers import Headers


class SpelledHeaders(Headers):
    """Headers whose names are sent in the spelling in which they were set.

    Twisted sends ``X-Api-Key`` for ``x-API-key``; some servers know only one spelling.
    """

    def __init__(self, rawHeaders: "dict[bytes, Sequence[bytes]] | None" = None) -> None:
        self._spelled: dict[bytes, bytes] = {}
        super().__init__(rawHeaders)

    def setRawHeaders(self, name: str | bytes, values: Sequence[str | bytes]) -> None:
        super().setRawHeaders(name, values)
        self._spell(name)

    def addRawHeader(self, name: str | bytes, value: str | bytes) -> None:
        super().addRawHeader(name, value)
        self._spell(name)

    def _spell(self, name: str | bytes) -> None:
        spelled = name.encode("latin-1") if isinstance(name, str) else name
        self._spelled[spelled.lower()] = spelled

    def getAllRawHeaders(self) -> Iterator[tuple[bytes, Sequence[bytes]]]:
        for name, values in super().getAllRawHeaders():
            yield self._spelled.get(name.lower(), name), values

    def copy(self) -> "SpelledHeaders":
        return SpelledHeaders(dict(self.getAllRawHeaders()))


def spelled(headers: dict[str, str]) -> Headers:
    """``headers`` for one request. Of two spellings of a name the last one counts."""
    made = Headers()
    for name, value in headers.items():
        made.setRawHeaders(name, [value])
    usual = {name for name, _ in made.getAllRawHeaders()}
    if all(name.encode("latin-1") in usual for name in headers):
        return made
    own = SpelledHeaders()
    for name, value in headers.items():
        own.setRawHeaders(name, [value])
    return own
