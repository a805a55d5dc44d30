from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

import pytest

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
