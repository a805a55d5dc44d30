from __future__ import annotations

import dataclasses
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from pilotboat.engine import tls
from pilotboat.engine.tls import Identity, issue

NOW = datetime.now(UTC)
HOSTS = ("progress.ns.svc", "localhost")


@pytest.fixture(scope="module")
def identity() -> Identity:
    return issue(None, HOSTS, NOW)


def handshake(server: Identity, client: Identity, host: str) -> None:
    """A whole TLS handshake in memory."""
    at_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_into(at_server)
    at_client = ssl.create_default_context(cadata=client.ca.decode())
    (a, b), ends = (ssl.MemoryBIO(), ssl.MemoryBIO()), []
    ends.append(at_client.wrap_bio(a, b, server_hostname=host))
    ends.append(at_server.wrap_bio(b, a, server_side=True))
    done: set[int] = set()
    while len(done) < 2:
        for number, end in enumerate(ends):
            try:
                end.do_handshake()
                done.add(number)
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize("host", HOSTS)
def test_a_trainer_that_has_the_authority_trusts_it(identity: Identity, host: str) -> None:
    handshake(identity, identity, host)


def test_no_other_name_and_no_other_authority(identity: Identity) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(identity, identity, "elsewhere")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(issue(None, HOSTS, NOW), identity, HOSTS[0])


def test_it_stays_as_long_as_it_does(identity: Identity) -> None:
    assert issue(identity, HOSTS, NOW + timedelta(days=200)) == identity


@pytest.mark.parametrize(("hosts", "days"), [(HOSTS, 300), (("other.ns.svc",), 0)])
def test_a_new_certificate_of_the_same_authority(identity: Identity, hosts: tuple[str, ...], days: int) -> None:
    renewed = issue(identity, hosts, NOW + timedelta(days=days))
    assert (renewed.ca, renewed.ca_key) == (identity.ca, identity.ca_key)
    assert renewed.cert != identity.cert


def test_a_new_authority_long_before_the_old_one_ends(identity: Identity) -> None:
    assert issue(identity, HOSTS, NOW + timedelta(days=3000)).ca != identity.ca


OTHER = issue(None, HOSTS, NOW)
ED25519 = ed25519.Ed25519PrivateKey.generate().private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)


@pytest.mark.parametrize(
    "spoiled",
    [
        *({field: b"nonsense"} for field in ("ca", "ca_key", "cert", "key")),
        {"ca_key": OTHER.ca_key},
        {"ca_key": ED25519},
        {"ca": OTHER.ca},
        {"ca": OTHER.ca, "ca_key": OTHER.ca_key},
        {"cert": OTHER.cert, "key": OTHER.key},
        {"key": OTHER.key},
    ],
)
def test_what_could_not_be_renewed_is_made_anew_when_it_is_read(identity: Identity, spoiled: dict[str, bytes]) -> None:
    """Renewal comes after most of a year, in all replicas at once."""
    assert tls._read(tls._secret("ns", "name", identity)) == identity
    assert tls._read(tls._secret("ns", "name", dataclasses.replace(identity, **spoiled))) is None


@pytest.mark.parametrize("data", [None, {}, {"ca.crt": None}, {"ca.crt": "!"}])
def test_a_secret_with_something_else_in_it_is_made_anew(data: object) -> None:
    assert tls._read({"data": data}) is None
