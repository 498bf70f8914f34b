"""The secrets that sign callbacks, by the Standard Webhooks specification.

Each line of the file has a secret, ``whsec_`` and base64. If the name of a token follows, the
secret is for callbacks of that token only. A token without a line has secrets that are derived
from those without a name; ``GET /v1/secret`` shows it them. Each callback is signed with all
secrets of its batch's token. So a secret is replaced in three steps: a new one is added, the
receivers learn it, the old one is removed.
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
from twisted_bulk.system.reread import Reread

log = Logger()

MIN_BYTES, MAX_BYTES = 24, 64  # of a secret, by the specification


class Signer:
    """Signs callbacks; a file that has changed is read again.

    :raises ConfigError: the file cannot be read, at the start; later the secrets before it stay
    """

    def __init__(self, file: Path) -> None:
        self._secrets = Reread(
            file,
            lambda again: read_secrets(file),
            changed=lambda found: log.info("callbacks are signed with new secrets now"),
            kept=lambda error: log.error(
                "{error}; the secrets before it are used still", error=error
            ),
        )

    def secrets(self, owner: str = "") -> list[str]:
        """The secrets of a token, as ``whsec_<base64>``."""
        known = self._secrets.content()
        return known.get(owner) or [_derive(secret, owner) for secret in known[""]]

    def sign(self, message: str, now: datetime, data: str, owner: str = "") -> str:
        """The ``webhook-signature`` header of a callback.

        :param owner: the token of its batch, or empty
        """
        signed = (Webhook(secret).sign(message, now, data) for secret in self.secrets(owner))
        return " ".join(signed)


def read_secrets(file: Path) -> dict[str, list[str]]:
    """The secrets of a file by the name of their token; those without a name have an empty one.

    :raises ConfigError: the file cannot be read, or a line of it is not a secret
    """
    found: dict[str, list[str]] = {"": []}
    try:
        for line in file.read_text(encoding="ascii").splitlines():
            words = line.partition("#")[0].split()
            if words:
                secret, owner = words[0], "".join(words[1:])
                if len(words) > 2 or owner.startswith("whsec_"):
                    raise ValueError("a line is a secret, and the name of a token or nothing")
                size = len(b64decode(secret.removeprefix("whsec_"), validate=True))
                if not MIN_BYTES <= size <= MAX_BYTES:
                    raise ValueError(f"a secret has {MIN_BYTES} to {MAX_BYTES} bytes")
                Webhook(secret)
                found.setdefault(owner, []).append(secret)
        if not found[""]:
            raise ValueError("there is no secret without a name")
    except Exception as error:  # the library has errors of its own
        raise ConfigError(
            f"secret: {file} is not readable as lines of whsec_<base64>: {error}"
        ) from None
    return found


def _derive(secret: str, owner: str) -> str:
    """The secret of one token; it does not reveal other tokens' secrets, nor the file's."""
    key = b64decode(secret.removeprefix("whsec_"))
    made = hmac.digest(key, f"bulkwav token {owner}".encode(), "sha256")
    return "whsec_" + b64encode(made).decode()


def load_signer(path: str, data: Path) -> Signer:
    """The signer.

    :param path: of the file; empty: ``secret`` in the folder ``data``, which is made at first use
    :raises ConfigError: the file cannot be read
    """
    file = Path(path) if path else data / "secret"
    if not path and not file.exists():
        new = data / f".secret-{secrets.token_hex(4)}"
        text = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(text + "\n")
        try:
            os.link(new, file)  # unlike rename, it never replaces a file that is in use
        except FileExistsError:
            pass
        finally:
            new.unlink()
    return Signer(file)
