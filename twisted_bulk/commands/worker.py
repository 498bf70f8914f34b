"""``worker``: runs functions of your own on a queue."""

import argparse
import difflib
import importlib
import os
import pkgutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner

from twisted_bulk.commands.exits import DONE, FAILED, INTERRUPTED, CommandError
from twisted_bulk.commands.output import Output
from twisted_bulk.errors import ConfigError
from twisted_bulk.queue import Consumer, Functions, open_queue
from twisted_bulk.system import logs
from twisted_bulk.system.process import use_monotonic_clock

OWN = os.path.dirname(os.path.dirname(__file__))  # the folder of this package


def work(options: argparse.Namespace, output: Output) -> int:
    """Run functions until a signal comes, or until nothing is left to do."""
    url = options.queue or os.environ.get("BULKWAV_QUEUE", "")
    if not url:
        raise CommandError("which queue?", hint="--queue redis://localhost, or embedded:FOLDER")
    functions = load(options.target)
    from twisted.internet import reactor

    try:
        queue = open_queue(reactor, url, options.name)
        consumer = Consumer(
            queue, functions, reactor, slots=options.slots, timeout=options.timeout,
            processes=options.processes, max_doing=options.max_doing, qps=options.qps,
            no_run=options.no_run, spool=options.spool or None, drain=options.drain,
        )  # fmt: skip
    except ConfigError as error:
        raise CommandError(f"--queue {error}") from None
    except ValueError as error:
        what = "--no-run: expected " if options.no_run else ""
        raise CommandError(f"{what}{error}") from None
    left = _run(reactor, consumer, options.until_empty, output)
    if output.is_json:
        output.document({"queue": options.name, "counts": left})
    return DONE


def _run(reactor: Any, consumer: Consumer, until_empty: bool, output: Output) -> dict[str, int]:
    """Run the reactor until it is stopped; returns the queue's counts, with ``until_empty``."""
    use_monotonic_clock(reactor)
    is_read = sys.stderr.isatty() and not output.is_json
    form = logs.as_text if is_read else logs.as_line
    observer = logs.Observer(logs.LogFile("-", sys.stderr), form)
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False, discardBuffer=True)
    left: dict[str, int] = {}

    async def main() -> None:
        consumer.startService()
        if until_empty:
            await consumer.empty()
            left.update((await consumer.queue.stats()).counts)
            reactor.stop()

    def begin() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stopper(reactor))
        Deferred.fromCoroutine(main())

    reactor.callWhenRunning(begin)
    reactor.run()
    return left


def _stopper(reactor: Any) -> Callable[[int, Any], None]:
    """What a signal does: the first one lets running calls end, the second ends at once."""
    is_stopping = False

    def stop(number: int, frame: Any) -> None:
        nonlocal is_stopping
        if is_stopping:
            os._exit(INTERRUPTED)
        is_stopping = True
        reactor.callFromThread(reactor.stop)

    return stop


def load(target: str) -> Callable[..., Any] | Functions:
    """The function, or the functions, that ``module:name`` means.

    :raises CommandError: there is none
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise CommandError(f"{target!r}: expected module:function, as jobs:resize")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise CommandError(f"{module_name} needs a module {error.name!r}", FAILED) from None
        names = [one.name for one in pkgutil.iter_modules([os.getcwd()])]
        raise CommandError(
            f"there is no module {module_name!r}", hint=_meant(module_name, names)
        ) from None
    except Exception as error:
        where = _line_of(error)
        raise CommandError(
            f"{module_name} cannot be imported: {type(error).__name__}: {error}{where}", FAILED
        ) from None
    found = getattr(module, name, None)
    if not isinstance(found, Functions) and not callable(found):
        what = "is no function" if hasattr(module, name) else "is not in it"
        raise CommandError(f"{module_name}: {name!r} {what}", hint=_meant(name, dir(module)))
    return found


def _meant(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, set(names) - {name}, 1)
    return f"did you mean {close[0]}?" if close else ""


def _line_of(error: Exception) -> str:
    """Where an error came from: the last line that is not this package's own."""
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = frame.f_code.co_filename
        if not path.startswith((OWN, "<frozen")):
            found = f" ({path}, line {line})"
    return found
