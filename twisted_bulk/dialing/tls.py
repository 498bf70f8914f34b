"""Which certificates are trusted, and why one is not, in words."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions, platformTrust
from twisted.logger import Logger
from zope.interface import implementer

from twisted_bulk.errors import MemberError
from twisted_bulk.system.net import address

log = Logger()

#: By ``host`` or ``host:port`` in lower case, with brackets around an IPv6 address: the SHA-256 of
#: certificates that are trusted there, in hexadecimal digits.
Pins = Mapping[str, Collection[str]]

MAX_NAMES = 5  # of a certificate that are shown
_NOT_YET, _EXPIRED = 9, 10  # OpenSSL's numbers of the errors of X509_verify_cert
_UNKNOWN = (2, 18, 19, 20, 21)


@implementer(IOpenSSLTrustRoot)
class TrustRoots:
    """The system's certificate authorities, and those of ``more``."""

    def __init__(self, more: Sequence[X509]) -> None:
        self._more = more

    def _addCACertsToContext(self, context: Any) -> None:
        platformTrust()._addCACertsToContext(context)
        store = context.get_cert_store()
        for certificate in self._more:
            store.add_cert(certificate)


@dataclass
class _Peer:
    """The certificate of a server, and what is wrong with it.

    :param reason: in words; empty: nothing
    :param leaf: None: it was not seen
    """

    reason: str = ""
    leaf: X509 | None = None


@implementer(IOpenSSLClientConnectionCreator)
class _Verifying:
    """Makes TLS connections to a host that end while they are set up, unless they are trusted.

    :ivar peer: of the last connection
    """

    def __init__(self, host: str, where: str, pins: Collection[str], context: SSL.Context) -> None:
        self._host = host.lower().rstrip(".")
        self._is_name = address(host) is None
        self._where = where
        self._pins = pins
        self._context = context
        self.peer = _Peer()

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(tlsProtocol)
        if self._is_name:
            connection.set_tlsext_host_name(self._host.encode())
        self.peer = _Peer()
        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verify)
        return connection

    def _verify(
        self, connection: SSL.Connection, found: X509, number: int, depth: int, is_good: int
    ) -> bool:
        """OpenSSL calls it for each certificate of the chain, and for each that has a problem.

        Most problems of other certificates come before that of the server (depth 0): they are
        kept, so that they can be told with its certificate. Behind it, each ends the connection.
        """
        peer = self.peer
        try:
            if not is_good and not peer.reason and not self._pins:
                peer.reason = _reason(number, found)
            if depth != 0 and peer.leaf is None:
                return True
            if depth == 0:
                peer.leaf = found
                peer.reason = peer.reason or self._refuses(found)
        except Exception:
            log.failure("verifying a certificate failed")
            peer.reason = peer.reason or "the certificate cannot be read"
        return not peer.reason

    def _refuses(self, found: X509) -> str:
        """Why a server's certificate is not the right one, or nothing."""
        if self._pins:
            return "" if _fingerprint(found) in self._pins else "it is not the pinned certificate"
        if self._is_for_host(found):
            return ""
        return f"the certificate is for {_names(found)}, not for {self._host}"

    @property
    def is_trusted(self) -> bool:
        """Whether the server's certificate was seen, and nothing is wrong."""
        return self.peer.leaf is not None and not self.peer.reason

    def _is_for_host(self, found: X509) -> bool:
        wanted = DNS_ID(self._host) if self._is_name else IPAddress_ID(self._host)
        try:
            verify_service_identity(extract_patterns(found), [wanted], [])
        except (VerificationError, CertificateError):
            return False
        return True

    def refusal(self) -> MemberError:
        """The error for a connection that could not be set up."""
        peer = self.peer
        if not peer.reason:
            return MemberError("tls_failed", "the server does not speak TLS, or no version is safe")
        if peer.leaf is None:
            return MemberError("tls_failed", peer.reason)
        cure = f"--trust {self._where}=SHA256 takes the server's, {_fingerprint(peer.leaf)}"
        return MemberError("tls_failed", f"{peer.reason}; {cure}")


class TLSPolicy:
    """The policy of TLS connections: the usual authorities, more of them, pinned certificates.

    :param authorities: that are trusted beside the system's
    :param pins: where a host has pins, a certificate has to be one of them, and nothing else of it
        counts: not its authority, its names or its dates
    """

    def __init__(self, authorities: Sequence[X509] = (), pins: Pins | None = None) -> None:
        self._pins = pins or {}
        self._context: SSL.Context = CertificateOptions(
            trustRoot=TrustRoots(authorities)
        ).getContext()

    def creator(self, host: str, port: int) -> _Verifying:
        """The maker of connections to a host; for one connection."""
        key = f"[{host.lower()}]" if ":" in host else host.lower().rstrip(".")
        where = f"{key}:{port}"
        pins = self._pins.get(where) or self._pins.get(key) or ()
        return _Verifying(host, where, pins, self._context)


def _fingerprint(certificate: X509) -> str:
    encoded = certificate.to_cryptography().public_bytes(Encoding.DER)
    return hashlib.sha256(encoded).hexdigest()


def _reason(number: int, certificate: X509) -> str:
    about = certificate.to_cryptography()
    if number == _EXPIRED:
        return f"the certificate has expired since {about.not_valid_after_utc:%Y-%m-%d}"
    if number == _NOT_YET:
        return f"the certificate is not valid before {about.not_valid_before_utc:%Y-%m-%d}"
    if number in _UNKNOWN:
        return f"the authority is unknown (see --ca): {about.issuer.rfc4514_string()[:60]}"
    return f"the certificate is not valid: error {number} of OpenSSL"


def _names(certificate: X509) -> str:
    about = certificate.to_cryptography()
    try:
        found = about.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return about.subject.rfc4514_string()[:60] or "nobody"
    names = [str(one.value) for one in found]
    more = " and others" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES])[:100] + more
