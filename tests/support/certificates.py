"""Certificates of test servers, made on the spot."""

import datetime
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL.crypto import X509, PKey
from twisted.internet.ssl import CertificateOptions

DAY = datetime.timedelta(days=1)


def _certificate(
    name: str, key: Any, issuer: str, by: Any, days: int, ca: bool, names: bool = True
) -> Any:
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 10 * DAY)
        .not_valid_after(now + days * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        alternative = x509.SubjectAlternativeName([x509.DNSName(name)])
        made = made.add_extension(alternative, critical=False)
    return made.sign(by, hashes.SHA256())


@cache
def authority(name: str) -> tuple[X509, Any]:
    """A certificate authority: its certificate, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    return X509.from_cryptography(_certificate(name, key, name, key, 10, True)), key


def issue(ca: X509, by: Any, host: str, days: int = 5, names: bool = True) -> CertificateOptions:
    """What a server for ``host`` shows, from ``ca``, whose key is ``by``.

    :param names: False: it has the host as its common name only
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(host, key, str(ca.get_subject().CN), by, days, False, names)
    return CertificateOptions(
        privateKey=PKey.from_cryptography_key(key), certificate=X509.from_cryptography(certificate)
    )
