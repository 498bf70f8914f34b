"""The command ``bulkwav``, with its subcommand ``demo``."""

import sys

from twisted_bulk import __version__

USAGE = """\
usage: bulkwav demo        see the whole system work, in half a minute, without a network
       bulkwav --version   print the version

The server itself is run by `twistd -n bulkwav`; see `twistd bulkwav --help`.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; returns the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if words == ["--version"]:
        print(f"bulkwav {__version__}")
        return 0
    if words == ["demo"]:
        from twisted_bulk.demo import run

        return run()
    if words in (["--help"], ["-h"]):
        print(USAGE, end="")
        return 0
    print(USAGE, end="", file=sys.stderr)
    return 2
