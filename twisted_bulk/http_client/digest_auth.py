"""Digest authentication (RFC 7616; without qop: RFC 2069). Pure."""

import hashlib
import re
import secrets
from collections.abc import Callable, Iterator, Sequence

from twisted_bulk.errors import MemberError

_PARAMETER = re.compile(r'[\s,]*([A-Za-z0-9_*-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')
#: Algorithms, the best first.
_ALGORITHMS = {"sha-512-256": "sha512_256", "sha-256": "sha256", "md5": "md5"}


def _challenges(values: Sequence[str]) -> Iterator[dict[str, str]]:
    """The parameters of each Digest challenge in the values of WWW-Authenticate."""
    for value in values:
        for scheme in re.finditer(r"(?i)(?:^|[\s,])Digest[ \t]+", value):
            at, found = scheme.end(), {}
            while match := _PARAMETER.match(value, at):
                quoted = re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3]
                found[match[1].lower()] = quoted
                at = match.end()
            yield found


def _rank(challenge: dict[str, str]) -> int:
    name = challenge.get("algorithm", "MD5").lower().removesuffix("-sess")
    names = list(_ALGORITHMS)
    return names.index(name) if name in names and "nonce" in challenge else len(names)


def is_asked(values: Sequence[str]) -> bool:
    """Whether one of the values of WWW-Authenticate asks for Digest."""
    return any(_rank(one) < len(_ALGORITHMS) for one in _challenges(values))


def answer(
    values: Sequence[str],
    userinfo: str,
    target: str,
    make_nonce: Callable[[], str] = lambda: secrets.token_hex(16),
) -> str:
    """The value of Authorization for a GET.

    :param values: those of WWW-Authenticate, see :func:`is_asked`
    :param userinfo: ``user:password``
    :param target: path and query of the request
    :raises MemberError: this program's Python lacks the algorithm
    """
    asked = min(_challenges(values), key=_rank)
    algorithm = asked.get("algorithm", "MD5")
    name = _ALGORITHMS[algorithm.lower().removesuffix("-sess")]

    def hashed(*words: str) -> str:
        try:
            return hashlib.new(name, ":".join(words).encode(), usedforsecurity=False).hexdigest()
        except ValueError:
            raise MemberError("http_error", f"Digest with {algorithm} is not possible") from None

    user, _, password = userinfo.partition(":")
    realm, nonce, own = asked.get("realm", ""), asked["nonce"], make_nonce()
    secret = hashed(user, realm, password)
    if algorithm.lower().endswith("-sess"):
        secret = hashed(secret, nonce, own)
    offered = [word.strip().lower() for word in asked.get("qop", "").split(",")]
    qop = next((word for word in ("auth", "auth-int") if word in offered), "")
    action = hashed("GET", target, hashed("")) if qop == "auth-int" else hashed("GET", target)
    between = [nonce, "00000001", own, qop] if qop else [nonce]
    hides = asked.get("userhash", "").lower() == "true"
    quoted = {"username": hashed(user, realm) if hides else user, "realm": realm, "nonce": nonce}
    quoted |= {"uri": target, "response": hashed(secret, *between, action)}
    quoted |= {"opaque": asked["opaque"]} if "opaque" in asked else {}
    plain = {"algorithm": algorithm} if "algorithm" in asked else {}
    plain |= {"qop": qop, "nc": "00000001"} if qop else {}
    quoted |= {"cnonce": own} if qop else {}
    plain |= {"userhash": "true"} if hides else {}
    escaped = (
        f'{k}="{re.sub(chr(92) * 2 + "|" + chr(34), _escape, v)}"' for k, v in quoted.items()
    )
    return "Digest " + ", ".join((*escaped, *(f"{k}={v}" for k, v in plain.items())))


def _escape(found: re.Match[str]) -> str:
    return "\\" + found[0]
