"""The functions of a consumer, by name, each with its options and its times."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted_bulk.calls.arguments import Call, encode
from twisted_bulk.calls.cron import Periodic
from twisted_bulk.calls.declarations import Declaration, declare
from twisted_bulk.consumer.task import Backoff

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A function as it is registered.

    :param timeout: seconds that a call may take; None: as the consumer says
    :param backoff: the pause before a failed call is tried again; None: as the consumer says
    :param threads: True: in threads; False: in the reactor's thread; None: as its kind says
    :param processes: it runs in child processes
    """

    name: str
    function: Callable[..., Any]
    declaration: Declaration
    timeout: float | None = None
    backoff: Backoff | None = None
    threads: bool | None = None
    processes: bool = False


class Functions:
    """Functions that one consumer runs.

    ``periodic``: the calls at fixed times.
    """

    def __init__(self) -> None:
        self._found: dict[str, Registered] = {}
        self.periodic: list[Periodic] = []

    @property
    def by_name(self) -> Mapping[str, Registered]:
        """All functions."""
        return self._found

    def add(
        self,
        function: Callable[..., Any],
        name: str | None = None,
        *,
        timeout: float | None = None,
        backoff: Backoff | None = None,
        threads: bool | None = None,
        processes: bool = False,
        **options: Any,
    ) -> None:
        """Register a function; the parameters are those of :class:`Registered`.

        :param name: None: its own
        :param options: of its calls, unless a publisher has others, see ``Publisher``
        :raises ValueError: the name is taken
        :raises TypeError: there is no such option
        """
        if name is None:
            name = getattr(function, "__name__", type(function).__name__)
        if name in self._found:
            raise ValueError(f"there is a function {name!r} already")
        self._found[name] = Registered(
            name=name, function=function, declaration=declare(function, options),
            timeout=timeout, backoff=backoff, threads=threads, processes=processes,
        )  # fmt: skip

    def register(self, name: str | None = None, **options: Any) -> Callable[[_F], _F]:
        """A decorator with the parameters of :meth:`add`: ``@functions.register(tries=5)``.

        :raises TypeError: it stands without brackets
        """
        if callable(name):
            raise TypeError("write @functions.register(), with brackets")

        def decorate(function: _F) -> _F:
            self.add(function, name, **options)
            return function

        return decorate

    def cron(
        self, line: str, *, zone: str = "UTC", call: Call | None = None, name: str | None = None
    ) -> Callable[[_F], _F]:
        """A decorator: the function is called at fixed times, once in all processes.

        It stands above ``register``, or alone. Times that no consumer saw are made up for, up to
        7 days back, the oldest first.

        :param line: five fields, as in crontab(5)
        :param zone: as ``Europe/Berlin``
        :param call: the arguments: ``call("a", b=1)``
        :param name: of this entry; needed where one function has several lines
        :raises ValueError: line or zone cannot be read, or the name is taken
        :raises BadArguments: the function cannot be called so
        """

        def decorate(function: _F) -> _F:
            self.add_periodic(function, line, zone=zone, call=call or Call(), name=name)
            return function

        return decorate

    def add_periodic(
        self,
        function: Callable[..., Any],
        line: str,
        *,
        zone: str = "UTC",
        call: Call = Call(),  # noqa: B008
        name: str | None = None,
    ) -> None:
        """As :meth:`cron`."""
        named = [one for one in self._found.values() if one.function is function]
        if not named:
            self.add(function)
            named = [list(self._found.values())[-1]]
        found = named[0]
        entry = found.name if name is None else name
        if any(one.name == entry for one in self.periodic):
            raise ValueError(f"there are calls at fixed times named {entry!r} already")
        new = Periodic(entry, found.name, line, zone, call, found.declaration.options)
        found.declaration.check(found.name, call)
        encode(found.name, call)
        self.periodic.append(new)


def functions_of(given: "Callable[..., Any] | Functions", **options: Any) -> Functions:
    """What a consumer was given: functions, or one function, whose name is empty.

    :param options: of the one function
    """
    if isinstance(given, Functions):
        if not given.by_name:
            raise ValueError("no function is registered")
        return given
    found = Functions()
    found.add(given, "", **options)
    return found
