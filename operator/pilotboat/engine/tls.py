"""The certificate of the progress receiver: made once, kept in a Secret, renewed in time.

Owns: keys, certificates and the Secret that all replicas share. Must not know: who trusts them.

Whoever finds no Secret makes one; of two at once the API server lets one win and the other reads what won.
"""

from __future__ import annotations

import base64
import logging
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pilotboat.api import labels

from .api import Api
from .errors import Conflict
from .kinds import SECRET

Raw = dict[str, Any]
log = logging.getLogger(__name__)
CA_DAYS, LEAF_DAYS = 3650, 365
RENEW_CA, RENEW_LEAF = timedelta(days=730), timedelta(days=120)
"""Renewed when less than this is left. The authority outlives every job by far: jobs hold its certificate."""
UNUSABLE = (
    *(KeyError, TypeError, ValueError, OSError),
    *(UnsupportedAlgorithm, InvalidSignature, x509.ExtensionNotFound),
)
"""What is raised by a Secret with something else in it."""
_FILES = ("ca.crt", "ca.key", "tls.crt", "tls.key")


@dataclass(frozen=True)
class Identity:
    """PEM."""

    ca: bytes
    ca_key: bytes
    cert: bytes
    key: bytes

    def load_into(self, context: ssl.SSLContext) -> None:
        """A server's context; connections made from now on get this certificate."""
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        with tempfile.TemporaryDirectory() as folder:
            cert, key = Path(folder, "crt"), Path(folder, "key")
            cert.write_bytes(self.cert)
            key.touch(mode=0o600)
            key.write_bytes(self.key)
            context.load_cert_chain(cert, key)


async def ensure(
    api: Api, namespace: str, name: str, hosts: Sequence[str], now: datetime, known: Identity | None = None
) -> Identity:
    """The identity in the Secret, made or renewed where need be; where it is gone, `known` goes back into it."""
    while True:
        found = await api.get(SECRET, namespace, name)
        identity = _read(found) if found else None
        wanted = issue(identity or known, hosts, now)
        if wanted == identity:
            return identity
        try:
            body = _secret(namespace, name, wanted)
            if found is None:
                await api.create(SECRET, namespace, body)
            else:
                version = found["metadata"]["resourceVersion"]
                await api.replace(SECRET, body | {"metadata": body["metadata"] | {"resourceVersion": version}})
            log.info("wrote the certificate of the progress receiver to Secret %s", name)
            return wanted
        except Conflict:  # another replica was faster: what it wrote is as good
            continue


def issue(old: Identity | None, hosts: Sequence[str], now: datetime) -> Identity:
    """The same identity where it still does; else one as much like it as can be."""
    if old is None or _left(old.ca, now) < RENEW_CA:
        ca, ca_key = _authority(now)
        return _leaf(ca, ca_key, hosts, now)
    if _left(old.cert, now) < RENEW_LEAF or _hosts(old.cert) != sorted(hosts):
        return _leaf(old.ca, old.ca_key, hosts, now)
    return old


def _authority(now: datetime) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pilotboat-progress-ca")])
    builder = _builder(name, name, key.public_key(), now, CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(sign=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), _pem(key)


def _leaf(ca: bytes, ca_key: bytes, hosts: Sequence[str], now: datetime) -> Identity:
    issuer = x509.load_pem_x509_certificate(ca)
    signer = serialization.load_pem_private_key(ca_key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pilotboat-progress")])
    builder = _builder(name, issuer.subject, key.public_key(), now, LEAF_DAYS)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(h) for h in hosts]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(sign=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
    )
    return Identity(
        ca, ca_key, builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), _pem(key)
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, sign: bool) -> x509.KeyUsage:
    off = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only")
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign,
        crl_sign=sign,
        decipher_only=False,
        **dict.fromkeys(off, False),
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


def _left(cert: bytes, now: datetime) -> timedelta:
    return x509.load_pem_x509_certificate(cert).not_valid_after_utc - now


def _hosts(cert: bytes) -> list[str]:
    names = x509.load_pem_x509_certificate(cert).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return sorted(names.value.get_values_for_type(x509.DNSName))


def _read(secret: Mapping[str, Any]) -> Identity | None:
    """None where somebody spoiled it: then it is made anew."""
    try:
        data = secret.get("data") or {}
        identity = Identity(*(base64.b64decode(data[file]) for file in _FILES))
        identity.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        _check(identity)
    except UNUSABLE as error:
        log.warning("the Secret of the progress receiver's certificate is unusable: %s", type(error).__name__)
        return None
    return identity


def _check(identity: Identity) -> None:
    """That all four belong together: else it shows when it is renewed, where nothing can be done. Raises UNUSABLE."""
    ca, cert = (x509.load_pem_x509_certificate(pem) for pem in (identity.ca, identity.cert))
    signer = serialization.load_pem_private_key(identity.ca_key, None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey) or signer.public_key() != ca.public_key():
        raise ValueError("ca.key is not the key of ca.crt")
    cert.verify_directly_issued_by(ca)
    _hosts(identity.cert)


def _secret(namespace: str, name: str, identity: Identity) -> Raw:
    content = zip(_FILES, (identity.ca, identity.ca_key, identity.cert, identity.key), strict=True)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": namespace, "name": name, "labels": {labels.NAME: labels.MANAGER}},
        "type": "Opaque",
        "data": {file: base64.b64encode(pem).decode() for file, pem in content},
    }
