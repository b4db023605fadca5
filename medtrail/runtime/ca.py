"""The network's private certificate authority: ECDSA P-256 certificates for the TLS of every call.

Certificates encrypt and name hosts; who calls is told by tokens (:mod:`medtrail.runtime.tokens`). gRPC refuses Ed25519
certificates, hence P-256.

Source: RFC 5280, sections 4.1 and 4.2.
"""

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from medtrail.errors import MalformedError

CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=397)
_BACKDATED = timedelta(minutes=5)  # clocks differ


@dataclass(frozen=True, slots=True)
class Credentials:
    """A certificate and its private key, both PEM; the repr shows the certificate only."""

    certificate: bytes
    private_key: bytes

    def __repr__(self) -> str:
        """Show no key."""
        return f"Credentials({len(self.certificate)} bytes of certificate)"


def server_name(organisation: str) -> str:
    """Return the host name under which an organisation's certificate is checked, wherever it listens."""
    return f"{organisation}.medtrail.internal"


def create_ca(name: str, *, now: datetime) -> Credentials:
    """Return a new self-signed authority, which can sign leaves only (path length 0), valid for ten years.

    Args:
        name: Common name, 1 to 64 characters.
        now: Aware UTC.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(subject, subject, key.public_key(), now=now, lifetime=CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _credentials(certificate, key)


def issue(ca: Credentials, organisation: str, *, now: datetime, hosts: tuple[str, ...] = ()) -> Credentials:
    """Return a new server certificate of an organisation, valid for 397 days.

    Args:
        ca: The authority.
        organisation: Its short name; the names are ``<name>.medtrail.internal``, localhost, 127.0.0.1 and ::1.
        now: Aware UTC.
        hosts: Further host names or IP addresses.

    Raises:
        MalformedError: KEY_MALFORMED: the authority's PEM cannot be read.
    """
    try:
        ca_certificate = x509.load_pem_x509_certificate(ca.certificate)
        ca_key = serialization.load_pem_private_key(ca.private_key, password=None)
    except ValueError as error:
        raise MalformedError("the CA's certificate or key is not PEM", code="KEY_MALFORMED", field="ca") from error
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise MalformedError("the CA's key is not an ECDSA key", code="KEY_MALFORMED", field="ca")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, organisation)])
    names = ("localhost", server_name(organisation), "127.0.0.1", "::1", *hosts)
    certificate = (
        _builder(subject, ca_certificate.subject, key.public_key(), now=now, lifetime=LEAF_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return _credentials(certificate, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + lifetime)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _credentials(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Credentials:
    return Credentials(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
