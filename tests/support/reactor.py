"""The global reactor, which only tests use by its name. Typed by what it does."""

from typing import Any

from twisted.internet import reactor as _reactor

reactor: Any = _reactor
