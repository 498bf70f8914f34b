"""``bulkwav``: the server that it calls, and how each subcommand ends."""

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence

from twisted_bulk import __version__
from twisted_bulk.api_client.failures import ClientError
from twisted_bulk.api_client.sync_client import Client
from twisted_bulk.commands.command_table import COMMANDS
from twisted_bulk.commands.exits import (
    DONE,
    FAILED,
    INTERRUPTED,
    TOKEN_REFUSED,
    USAGE,
    CommandError,
    command_error,
)
from twisted_bulk.commands.inputs import near
from twisted_bulk.commands.output import Form, Output, drop_output
from twisted_bulk.commands.parser import make_parser, parse

DEFAULT_SERVER = "http://localhost:10000"
MAX_TOKEN_BYTES = 4096  # of a file with a token; a larger file is another one
PATIENCE = 1.0  # seconds for which one call is repeated


def connect(options: argparse.Namespace) -> Client:
    """A client for the server that the options name.

    :raises CommandError: one of them is wrong
    """
    server = getattr(options, "server", "") or os.environ.get("BULKWAV_SERVER") or DEFAULT_SERVER
    ca = getattr(options, "ca", "") or os.environ.get("BULKWAV_SERVER_CA", "")
    try:
        return Client(server, token_of(options), patience=PATIENCE, ca=ca)
    except ValueError as error:
        raise CommandError(str(error), hint="see --server and --token-file") from None
    except OSError as error:
        raise CommandError(f"{ca}: {error.strerror or error}", hint="see --ca") from None


def token_of(options: argparse.Namespace) -> str:
    """The token: of ``--token-file``, else of BULKWAV_TOKEN_FILE, else BULKWAV_TOKEN.

    :raises CommandError: the file cannot be read, or has no token
    """
    path = getattr(options, "token_file", "") or os.environ.get("BULKWAV_TOKEN_FILE", "")
    if not path:
        return os.environ.get("BULKWAV_TOKEN", "").strip()
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_TOKEN_BYTES + 1)
    except FileNotFoundError:
        raise CommandError(f"{path}: there is no such file", hint=near(path)) from None
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    token = text.decode("ascii", "replace").strip()
    if not token or len(text) > MAX_TOKEN_BYTES or len(token.split()) != 1:
        raise CommandError(
            f"{path}: expected a token and nothing else in it", TOKEN_REFUSED, "bad_token_file"
        )
    return token


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    # Before they are parsed: a wrong command line is told in this form, too.
    forms = {"--json": Form.JSON, "--jsonl": Form.JSONL, "--plain": Form.PLAIN}
    output = Output(next((forms[word] for word in words if word in forms), Form.TEXT))
    parser = make_parser(COMMANDS, __version__)
    name = "bulkwav"
    try:
        if any(not word.isprintable() and not _is_text(word) for word in words):
            raise CommandError("the command line is not UTF-8")
        options = parse(parser, words)
        if options.command is None:
            output.console.file.write(parser.format_help())
            return USAGE
        output.form = getattr(options, "form", Form.TEXT)
        name = f"bulkwav {options.command}"
        if options.chosen.is_local:
            status: int = options.chosen.run(options, output)
        else:
            with connect(options) as client:
                status = options.chosen.run(options, client, output)
        output.close()
        return status
    except CommandError as error:
        output.fail(error, name)
        return error.status
    except ClientError as error:
        found = command_error(error)
        output.fail(found, name)
        return found.status
    except BrokenPipeError:
        drop_output()
        return DONE
    except OSError as error:
        drop_output()
        found = CommandError(f"{error.filename or 'the output'}: {error.strerror}", FAILED, "disk")
        output.complain(found, name)
        return FAILED
    except Exception as error:  # a fault of ours, or an answer that nobody thought of
        if os.environ.get("BULKWAV_TRACEBACK"):
            raise
        found = CommandError(
            f"{type(error).__name__}: {error}"[:300], FAILED, "internal",
            "that is a fault of bulkwav; BULKWAV_TRACEBACK=1 shows where",
        )  # fmt: skip
        output.fail(found, name)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _is_text(word: str) -> bool:
    """Whether a word has whole characters only; bytes that are none come as halves."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def run() -> None:
    """The program: ends by SIGINT itself if that ended it, so that shells stop their loops, too."""
    for name in ("stdin", "stdout", "stderr"):  # one that is closed is None
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the terminal cannot show is escaped
            stream.reconfigure(errors="backslashreplace")
    status = main()
    if status == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    sys.exit(status)
