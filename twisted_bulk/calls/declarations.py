"""What the consumers of a queue have declared: the parameters and the options of each function.

A consumer writes it into the queue when it starts. So a publisher in another process refuses
arguments that cannot fit, and uses the options that stand beside the function.
"""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from time import monotonic, time
from typing import Annotated, Any

import msgspec

from twisted_bulk.calls.arguments import Call
from twisted_bulk.jobs.protocol import JobQueue

#: For which a declaration holds; consumers repeat theirs each hour. A function that no consumer has
#: any more is then refused.
DECLARED_SECONDS = 86400.0
KEPT_SECONDS = 30.0  # that declarations are kept by a publisher before they are read again
NONE_KEPT_SECONDS = 1.0  # the same, while nothing is declared

_Seconds = Annotated[float, msgspec.Meta(ge=0, le=366 * 86400)]


class CallOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The options of a call that a publisher or a function may have, see ``Work``."""

    priority: Annotated[int, msgspec.Meta(ge=-8000, le=8000)] | None = None
    first: bool | None = None
    delay: _Seconds | None = None
    expires: _Seconds | None = None
    tries: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    losses: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] | None = None
    unique: bool | None = None
    window: _Seconds | None = None


OPTIONS = CallOptions.__struct_fields__


def checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are given.

    :raises TypeError: there is no such option
    :raises ValueError: an option has another kind of value
    """
    unknown = options.keys() - set(OPTIONS)
    if unknown:
        raise TypeError(f"{min(unknown)} is no option of a call")
    given = {name: value for name, value in options.items() if value is not None}
    try:
        msgspec.convert(given, CallOptions)
    except msgspec.ValidationError as error:
        raise ValueError(f"option of a call: {error}") from None
    return given


class BadArguments(TypeError):
    """The arguments of a call do not fit its function, or no consumer has this function."""


class Declaration(msgspec.Struct, frozen=True, omit_defaults=True, dict=True):
    """One function.

    :param parameters: name, kind (as in ``inspect``) and whether it has a default; None: unknown
    :param options: those of its calls
    :param at: when it was declared; seconds since 1970
    """

    parameters: tuple[tuple[str, int, bool], ...] | None = None
    options: dict[str, Any] = {}
    at: float = 0.0

    @cached_property
    def _signature(self) -> inspect.Signature | None:
        if self.parameters is None:
            return None
        kinds = list(inspect._ParameterKind)
        return inspect.Signature(
            [
                inspect.Parameter(one, kinds[kind], default=None if has_default else inspect._empty)
                for one, kind, has_default in self.parameters
            ]
        )

    def check(self, name: str, asked: Call) -> None:
        """:raises BadArguments: the arguments do not fit"""
        if self._signature is None:
            return
        try:
            self._signature.bind(*asked.args, **asked.kwargs)
        except TypeError as error:
            raise BadArguments(f"{name or 'the function'}: {error}") from None


def declare(function: Callable[..., Any], options: Mapping[str, Any]) -> Declaration:
    """The declaration of a function.

    :raises TypeError: there is no such option
    :raises ValueError: an option has another kind of value
    """
    given = checked_options(options)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin may not tell
        return Declaration(None, given)
    told = [(one.name, int(one.kind), one.default is not inspect._empty) for one in parameters]
    return Declaration(tuple(told), given)


async def declare_all(queue: JobQueue, functions: Mapping[str, Declaration]) -> None:
    """Tell a queue what a consumer's functions can be called with, as of now."""
    await queue.declare(
        {
            name: msgspec.json.encode(msgspec.structs.replace(one, at=time()))
            for name, one in functions.items()
        }
    )


def _read(text: bytes) -> Declaration | None:
    """A declaration; None: it is none that this version can read, and counts as absent."""
    try:
        found = msgspec.json.decode(text, type=Declaration)
        checked_options(found.options)
        found.check("", Call())
    except BadArguments:
        return found
    except (TypeError, ValueError, IndexError):
        return None
    return found


class Declarations:
    """The declarations of one queue, as a publisher sees them."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._known: dict[str, Declaration] = {}
        self._read = -KEPT_SECONDS

    async def find(self, name: str, asked: Iterable[Call]) -> Declaration:
        """The declaration of a function; an empty one where nobody has declared any.

        :param asked: calls, which are checked
        :raises BadArguments: the arguments do not fit, or others are declared and this one is not
        """
        if monotonic() - self._read > (KEPT_SECONDS if self._known else NONE_KEPT_SECONDS):
            await self._refresh()
        try:
            return self._checked(name, asked)
        except BadArguments:
            # A consumer of a newer version may have started since.
            await self._refresh()
            return self._checked(name, asked)

    async def _refresh(self) -> None:
        found = await self._queue.declared()
        known = {name: _read(text) for name, text in found.items()}
        oldest = time() - DECLARED_SECONDS
        self._known = {name: one for name, one in known.items() if one and one.at > oldest}
        self._read = monotonic()

    def _checked(self, name: str, asked: Iterable[Call]) -> Declaration:
        found = self._known.get(name)
        if found is None and not name and len(self._known) == 1:
            (found,) = self._known.values()
        if found is None:
            if not self._known:
                return Declaration()
            if not name:
                some = min(self._known)
                raise BadArguments(f"which function? publisher.options(function={some!r})")
            close = difflib.get_close_matches(name, self._known, 1)
            meant = f"; did you mean {close[0]!r}?" if close else f"; there is {min(self._known)!r}"
            raise BadArguments(f"no consumer of this queue has a function {name!r}{meant}")
        for one in asked:
            found.check(name, one)
        return found
