"""Authorities and certificates for tests, made on the spot."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fsm_conn.cluster.recipe import TlsFiles


class Authority:
    """An authority that signs certificates into a directory."""

    def __init__(self, directory: Path, name: str = "test authority") -> None:
        self._directory = directory
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        built = _builder(self._name, self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self._certificate = built.sign(self._key, hashes.SHA256())
        self.path = directory / f"{name.replace(' ', '-')}.pem"
        self.path.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def signed(self, name: str, *, days: int = 7) -> tuple[Path, Path]:
        """A certificate for 127.0.0.1 and `name`, which expires in `days`, and its key, as files."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(
            [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName(f"{name}.test")]
        )
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        built = _builder(subject, self._name, key, days).add_extension(names, critical=False)
        certificate, key_path = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        certificate.write_bytes(built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, key_path

    def files(self, name: str, *, mutual: bool = True, days: int = 7, **options: Any) -> TlsFiles:
        """The same as `TlsFiles`, which trust this authority."""
        certificate, key = self.signed(name, days=days)
        return TlsFiles(certificate=certificate, key=key, authorities=self.path if mutual else None, **options)


def _builder(subject: x509.Name, issuer: x509.Name, key: Any, days: int = 7) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return x509.CertificateBuilder(
        issuer,
        subject,
        key.public_key(),
        x509.random_serial_number(),
        now - datetime.timedelta(days=3),
        now + datetime.timedelta(days=days),
    )
