"""The secrets that callbacks are signed with, as Standard Webhooks say.

The file has one secret a line, ``whsec_`` and base64. Each callback is signed with all of them, so
a receiver may know any one: a new secret is added, the receivers learn it, the old one goes.
"""

import os
import secrets
from base64 import b64decode, b64encode
from datetime import datetime
from pathlib import Path

from standardwebhooks.webhooks import Webhook
from twisted.logger import Logger

from twisted_bulk.errors import ConfigError

log = Logger()

SHORTEST, LONGEST = 24, 64  # bytes, as the standard has it


class Signer:
    """Signs; a file that has changed is read again.

    :raises ConfigError: it is not readable, at the start; later the old secrets stay
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen = self._version()
        self._webhooks = self._read()

    def _version(self) -> tuple[int, int] | None:
        try:
            about = self._file.stat()
        except OSError:
            return None
        return about.st_mtime_ns, about.st_ino

    def _read(self) -> list[Webhook]:
        try:
            lines = self._file.read_text(encoding="ascii").split()
            sizes = [len(b64decode(line.removeprefix("whsec_"), validate=True)) for line in lines]
            if not sizes or not all(SHORTEST <= size <= LONGEST for size in sizes):
                raise ValueError(f"a secret has {SHORTEST} to {LONGEST} bytes")
            found = [Webhook(line) for line in lines]
        except Exception as error:  # the library has a family of its own
            raise ConfigError(
                f"secret: {self._file} is not readable as whsec_<base64>: {error}"
            ) from None
        return found

    def sign(self, message: str, now: datetime, data: str) -> str:
        """The ``webhook-signature`` header."""
        version = self._version()
        if version != self._seen:
            self._seen = version
            try:
                self._webhooks = self._read()
                log.info("callbacks are signed with {n} secrets now", n=len(self._webhooks))
            except ConfigError as error:
                log.error("{error}; the secrets before it are used still", error=error)
        return " ".join(webhook.sign(message, now, data) for webhook in self._webhooks)


def load_signer(path: str, data: Path) -> Signer:
    """The signer; without ``path`` its secret is kept in ``data``, made at first use."""
    file = Path(path) if path else data / "secret"
    if not path and not file.exists():
        young = data / f".secret-{secrets.token_hex(4)}"
        text = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
        with open(os.open(young, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(text + "\n")
        try:
            os.link(young, file)  # unlike rename, never over one that is in use
        except FileExistsError:
            pass
        finally:
            young.unlink()
    return Signer(file)
