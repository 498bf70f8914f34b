"""Checks that a callback is from bulkwav, for whoever receives one."""

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from twisted_bulk.api_client.failures import BadSignature

_TEXT = ("task_id", "download", "schedule", "status", "owner", "warning")  # of a form: no JSON


def verify(body: bytes, headers: Mapping[str, str], secrets: str | Iterable[str]) -> dict[str, Any]:
    """A callback's content, once it is known to be from bulkwav.

    :param body: as it came
    :param headers: of the request, in any case
    :param secrets: one ``whsec_...``, or several while they are changed; see ``Client.secrets``
    :raises BadSignature: it is signed with none of these, or is older than 5 minutes
    :raises ValueError: a secret is none
    """
    given = {name.lower(): value for name, value in headers.items()}
    text = body.decode("utf-8", "replace")
    for signed in map(_signer, [secrets] if isinstance(secrets, str) else secrets):
        try:
            signed.verify(text, given, json_parse=False)
        except (WebhookVerificationError, ValueError):
            continue
        return _content(text)
    raise BadSignature("the callback is not signed with this secret, or it is too old")


def _signer(secret: str) -> Webhook:
    try:
        return Webhook(secret)
    except Exception:  # the library has errors of its own
        raise ValueError("a secret is whsec_ and base64, as GET /v1/secret shows it") from None


def _content(text: str) -> dict[str, Any]:
    """A callback's fields, from JSON or from a form."""
    if text.startswith("{"):
        found: dict[str, Any] = json.loads(text)
        return found
    fields = dict(parse_qsl(text, keep_blank_values=True))
    return {name: value if name in _TEXT else json.loads(value) for name, value in fields.items()}
