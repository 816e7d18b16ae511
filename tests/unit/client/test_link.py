"""The way to the broker: connections come and go, calls go on."""

import threading
from pathlib import Path
from typing import Any

import pytest

from custody.adapters.backoff import Backoff
from custody.client.identity import WorkloadIdentity
from custody.client.link import Link, dial
from custody.client.settings import Settings
from custody.errors import ConfigError, DeniedError, InterruptedByUser, UnavailableError
from custody.wire.tls import TlsFiles
from tests.doubles.actors import deterministic
from tests.unit.client.broker import Broker, write_tls


def _link(broker: Broker) -> Link:
    return Link(broker.settings(), broker.clock.surroundings(), None, broker.connect)


def test_one_connection_serves_many_calls(broker: Broker) -> None:
    with _link(broker) as link:
        for _ in range(3):
            link.call(lambda calls: calls.get_roots())
    assert (broker.connections, broker.closed) == (1, 1)


def test_a_new_certificate_makes_a_new_connection_and_the_old_one_is_closed(broker: Broker) -> None:
    with _link(broker) as link:
        link.call(lambda calls: calls.get_roots())
        write_tls(broker.world.job(), broker.tls.key.parent)
        link.call(lambda calls: calls.get_roots())
        assert (broker.connections, broker.closed) == (2, 1)


def test_a_connection_in_use_is_closed_only_when_its_last_call_has_ended(broker: Broker) -> None:
    with _link(broker) as link:
        with link.borrow():
            write_tls(broker.world.job(), broker.tls.key.parent)
            link.call(lambda calls: calls.get_roots())
            assert broker.closed == 0
        assert broker.closed == 1


def test_calls_are_repeated_while_the_broker_is_away_and_not_for_ever(broker: Broker) -> None:
    tries: list[int] = []

    def down(_: Any) -> None:
        tries.append(1)
        raise UnavailableError("down")

    with _link(broker) as link, pytest.raises(UnavailableError, match="down"):
        link.call(down, patience=20)
    assert 5 < len(tries) < 20
    assert 19 < broker.clock.passed <= 21
    assert broker.connections == len(tries)


def test_a_call_that_is_not_wanted_is_not_begun(broker: Broker) -> None:
    """Those who wait in line for a broker that hangs would otherwise wait for it one after the other."""
    begun: list[object] = []

    def wanted() -> None:
        raise UnavailableError("not wanted")

    with _link(broker) as link, pytest.raises(UnavailableError, match="not wanted"):
        link.call(begun.append, wanted=wanted)
    assert not begun


def test_what_the_broker_refuses_is_not_repeated(broker: Broker) -> None:
    tries: list[int] = []

    def refuse(_: Any) -> None:
        tries.append(1)
        raise DeniedError("no")

    with _link(broker) as link, pytest.raises(DeniedError):
        link.call(refuse)
    assert tries == [1]


def test_a_call_that_the_broker_cancelled_was_no_users_interruption(broker: Broker) -> None:
    def cancelled(_: Any) -> None:
        raise InterruptedByUser("Cancelled on the server side")

    with _link(broker) as link, pytest.raises(UnavailableError, match="broke off the call"):
        link.call(cancelled, patience=0)


def test_after_close_nothing_is_called(broker: Broker) -> None:
    link = _link(broker)
    link.close()
    with pytest.raises(UnavailableError, match="was closed"):
        link.call(lambda calls: calls.get_roots())
    assert broker.connections == 0


def test_closing_closes_what_other_threads_use(broker: Broker) -> None:
    link = _link(broker)
    borrowed, done = threading.Event(), threading.Event()

    def use() -> None:
        with link.borrow():
            borrowed.set()
            done.wait(10)

    thread = threading.Thread(target=use)
    thread.start()
    borrowed.wait(10)
    link.close()
    assert broker.closed == 1
    done.set()
    thread.join()
    assert broker.closed == 1


def test_a_certificate_that_has_ended_is_said_before_the_network_is_tried(broker: Broker) -> None:
    with pytest.raises(ConfigError, match="expired at 2026-11-22T08:59:00Z"):
        dial(broker.settings(), broker.world.now + 7200)
    with pytest.raises(ConfigError, match="valid only from"):
        dial(broker.settings(), broker.world.now - 7200)


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    files = TlsFiles(tmp_path / "no.crt", tmp_path / "no.key", tmp_path / "no.pem")
    with pytest.raises(ConfigError, match=r"no\.crt"):
        dial(Settings("d", "g", "a:1", "n", files), 0)


def test_pauses_double_up_to_ten_seconds_are_never_equal_and_end() -> None:
    backoff = Backoff(deterministic(b"pauses"), 100.0)
    now, pauses = 0.0, []
    while (pause := backoff.pause(now)) is not None:
        pauses.append(pause)
        now += pause
    assert 0.1 <= pauses[0] <= 0.2
    assert max(pauses) <= 10
    assert len(set(pauses)) == len(pauses)
    assert now == pytest.approx(100)


def test_a_key_and_certificate_that_do_not_fit_are_read_again_and_then_refused(broker: Broker) -> None:
    identity = WorkloadIdentity(broker.tls, broker.clock.sleep)
    assert identity.spiffe == broker.job.spiffe
    fresh = broker.world.job()
    old_certificate = broker.tls.certificate.read_bytes()
    write_tls(fresh, broker.tls.key.parent)
    new_certificate = broker.tls.certificate.read_bytes()
    broker.tls.certificate.write_bytes(old_certificate)
    with pytest.raises(ConfigError, match="is not the key of"):
        identity.credential()
    sleep = broker.clock.sleep

    def renamed(seconds: float) -> None:
        sleep(seconds)
        broker.tls.certificate.write_bytes(new_certificate)

    credential = WorkloadIdentity(broker.tls, renamed).credential()
    assert credential.actor == fresh.actor
    assert credential.signer.key_id == fresh.key_id


@pytest.mark.parametrize("data", [b"", b"-----BEGIN NONSENSE-----", b"\xff"])
def test_a_key_file_that_is_none_is_named(broker: Broker, data: bytes) -> None:
    broker.tls.key.write_bytes(data)
    with pytest.raises(ConfigError, match=r"tls\.key"):
        WorkloadIdentity(broker.tls, broker.clock.sleep).credential()
