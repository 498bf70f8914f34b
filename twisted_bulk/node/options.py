"""The command line of ``twistd bulkwav``."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.python import usage

from twisted_bulk import __version__
from twisted_bulk.errors import ConfigError
from twisted_bulk.node.settings import KEYS, Settings
from twisted_bulk.node.sources import load
from twisted_bulk.node.values import flag
from twisted_bulk.system.logs import choose


def _help(name: str) -> str:
    about = KEYS[name].metadata
    default = f" [{about['default']}]" if about["default"] not in ("", "no") else ""
    return f"{about['help']}{default}"


#: Options that may be given several times.
REPEATED = tuple(name for name, key in KEYS.items() if "repeatedly" in key.metadata["help"])


def _asks_for_pid_file(words: Sequence[str]) -> bool:
    # twistd takes every beginning of an option's name that is not another's, too.
    return any(word.startswith("--pi") for word in words)


HELP = """
Take batches of URLs over HTTP, fetch them all at once, pack each batch into one zip,
tell a callback how far it is, and hand the zip out at a fixed rate per client address.

    twistd -n bulkwav
    curl http://localhost:10000/v1/batches -d '{"download": ["https://example.com/a.wav"]}'

Every option can also be given in section [bulkwav] of the --config file (dashes become
underscores), and as BULKWAV_<OPTION> in the environment. The command line wins over the
environment, and that over the file.

Sizes: 200k is 200,000 and 200Ki 204,800. Times: 90, 30s, 5m, 2h, 7d. An endpoint is
Twisted's: tcp:10000, tcp:10000:interface=127.0.0.1, unix:/run/bulkwav.sock, ssl:...
With a pid file: twistd --pidfile=/run/bulkwav.pid -n bulkwav
"""


class Options(usage.Options):
    """The command line. Twisted calls the methods when it parses one.

    ``settings``: those of all sources together, after parsing.
    """

    synopsis = "[options]"

    settings: Settings

    optParameters = [
        ["config", "c", None, "file with settings; twistd.conf shows them all"],
        *(
            [name.replace("_", "-"), None, None, _help(name)]
            for name, key in KEYS.items()
            if key.metadata["parse"] is not flag and name not in REPEATED
        ),
    ]
    optFlags = [
        [name.replace("_", "-"), None, _help(name)]
        for name, key in KEYS.items()
        if key.metadata["parse"] is flag
    ]

    def __init__(self) -> None:
        super().__init__()
        self.lists: dict[str, list[str]] = {}

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            sys.exit(f"bulkwav: {error}; see twistd bulkwav --help")

    def getUsage(self, width: int | None = None) -> str:
        return str(super().getUsage(width)) + HELP

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"bulkwav {__version__}")
        sys.exit(0)

    def postOptions(self) -> None:
        given = {
            name: "yes" if key.metadata["parse"] is flag else self[name.replace("_", "-")]
            for name, key in KEYS.items()
            if self.get(name.replace("_", "-"))
        }
        given |= {name: ",".join(values) for name, values in self.lists.items()}
        try:
            self.settings = load(given, os.environ, self["config"])
        except ConfigError as error:
            sys.exit(f"bulkwav: {error}")
        twistd: Any = self.parent
        if twistd is not None and twistd.get("nodaemon") and not _asks_for_pid_file(sys.argv):
            # One that a power cut has left would keep it from starting.
            twistd["pidfile"] = ""
        if twistd is not None and not (twistd.get("logger") or twistd.get("syslog")):
            path = twistd.get("logfile") or ("" if twistd.get("nodaemon") else "twistd.log")
            twistd["logger"] = choose(self.settings.log_format, path)


def _collector(name: str) -> Callable[[Options, str], None]:
    def collect(self: Options, value: str) -> None:
        self.lists.setdefault(name, []).append(value)

    collect.__doc__ = _help(name)
    return collect


for _name in REPEATED:
    setattr(Options, f"opt_{_name}", _collector(_name))
