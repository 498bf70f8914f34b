"""The secrets that callbacks are signed with, as Standard Webhooks say.

The file has one secret a line, ``whsec_`` and base64, and behind it the name of a token where it is
for that one's callbacks. A token without a line of its own has secrets that are derived from those
without a name; ``GET /v1/secret`` tells it them. Each callback is signed with all secrets of its
batch's token, so a receiver may know any one: a new secret is added, the receivers learn it, the
old one goes.
"""

import hmac
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
        self._known = self._read()

    def _version(self) -> tuple[int, int] | None:
        try:
            about = self._file.stat()
        except OSError:
            return None
        return about.st_mtime_ns, about.st_ino

    def _read(self) -> dict[str, list[str]]:
        """Secrets by the name of their token; of those without one it is empty."""
        found: dict[str, list[str]] = {"": []}
        try:
            for line in self._file.read_text(encoding="ascii").splitlines():
                words = line.partition("#")[0].split()
                if words:
                    secret, owner = words[0], "".join(words[1:])
                    if len(words) > 2 or owner.startswith("whsec_"):
                        raise ValueError("a line is a secret, and the name of a token or nothing")
                    size = len(b64decode(secret.removeprefix("whsec_"), validate=True))
                    if not SHORTEST <= size <= LONGEST:
                        raise ValueError(f"a secret has {SHORTEST} to {LONGEST} bytes")
                    Webhook(secret)
                    found.setdefault(owner, []).append(secret)
            if not found[""]:
                raise ValueError("there is no secret without a name")
        except Exception as error:  # the library has a family of its own
            raise ConfigError(
                f"secret: {self._file} is not readable as lines of whsec_<base64>: {error}"
            ) from None
        return found

    def secrets(self, owner: str = "") -> list[str]:
        """Those of a token, as ``whsec_<base64>``."""
        version = self._version()
        if version != self._seen:
            self._seen = version
            try:
                self._known = self._read()
                log.info("callbacks are signed with new secrets now")
            except ConfigError as error:
                log.error("{error}; the secrets before it are used still", error=error)
        own = self._known.get(owner)
        return own or [_derive(secret, owner) for secret in self._known[""]]

    def sign(self, message: str, now: datetime, data: str, owner: str = "") -> str:
        """The ``webhook-signature`` header of a callback for a batch of ``owner``."""
        signed = (Webhook(secret).sign(message, now, data) for secret in self.secrets(owner))
        return " ".join(signed)


def _derive(secret: str, owner: str) -> str:
    """The secret of one token: who knows it knows neither another's nor what it was made of."""
    key = b64decode(secret.removeprefix("whsec_"))
    made = hmac.digest(key, f"bulkwav token {owner}".encode(), "sha256")
    return "whsec_" + b64encode(made).decode()


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
