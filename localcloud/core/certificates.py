"""The certificate authority of one cloud, and the certificates of its servers."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = timedelta(days=365)
_CLOCK_SKEW = timedelta(hours=1)
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_LONGEST_COMMON_NAME = 64


@dataclass(frozen=True)
class ServerCertificate:
    """A server's certificate and private key, as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority that lives as long as its cloud; its private key never leaves memory.

    :param directory: the folder that `ca.pem` is written to.
    """

    def __init__(self, directory: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rdsiam localcloud CA")])
        public = self._key.public_key()
        builder = _builder(self._name, self._name, public)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(public)
        #: The authority's own certificate, which clients trust.
        self.pem: str = _pem(builder.sign(self._key, hashes.SHA256())).decode()
        #: The certificate's file, for `sslrootcert` and `ssl_ca`.
        self.path: Path = directory / "ca.pem"
        directory.mkdir(parents=True, exist_ok=True)
        self.path.write_text(self.pem)

    def issue(self, directory: Path, names: Sequence[str] = LOCAL_NAMES) -> ServerCertificate:
        """Issue a server certificate.

        :param directory: the folder that `server.pem` and `server.key` (readable by its owner only) are written to.
        :param names: host names and IP addresses that clients may connect to; the first is the common name, without the
            end of a longer name than it can be.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:_LONGEST_COMMON_NAME])])
        builder = _builder(subject, self._name, key.public_key())
        for extension, critical in (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_key_usage(signs_certificates=False), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.SubjectAlternativeName([_general_name(name) for name in names]), False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier), False),
        ):
            builder = builder.add_extension(extension, critical=critical)
        directory.mkdir(parents=True, exist_ok=True)
        files = ServerCertificate(directory / "server.pem", directory / "server.key")
        files.certificate.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))
        files.key.unlink(missing_ok=True)
        with os.fdopen(os.open(files.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
        return files


def _builder(subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFE)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
