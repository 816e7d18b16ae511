"""The HTTP answers, without a network."""

import asyncio
import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

from starlette.applications import Starlette

from custody.errors import ConfigError
from custody.tlog.witness_protocol import SIZE_CONTENT_TYPE, Refused
from custody.witness.app import create_app
from custody.witness.cosigner import Cosigner
from custody.witness.limits import TokenBuckets
from custody.witness.state import CheckpointStore, origin_hash
from tests.doubles.tlog import ORIGIN, TIME, Log, log_signer, witness_signer

_LOG = Log(20)
_WITNESS = witness_signer()


class _Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


async def _ask(app: Starlette, method: str, path: str, chunks: Iterable[bytes] = ()) -> _Answer:
    messages: list[dict[str, Any]] = []
    waiting = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    waiting.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict[str, Any]:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        messages.append(dict(message))

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "client": ("192.0.2.1", 1234),
        "http_version": "1.1",
        "scheme": "http",
        "server": ("w", 80),
    }
    await app(scope, receive, send)
    headers = {key.decode(): value.decode() for key, value in messages[0]["headers"]}
    return _Answer(messages[0]["status"], headers, b"".join(message.get("body", b"") for message in messages[1:]))


def _app(store: CheckpointStore, *, burst: int = 100, prefix: str = "") -> Starlette:
    cosigner = Cosigner(_WITNESS, [log_signer().vkey], store, lambda: TIME)
    return create_app(cosigner, TokenBuckets(1, burst, lambda: 0.0), prefix=prefix)


def _add(app: Starlette, old: int, size: int, log: Log = _LOG) -> _Answer:
    return asyncio.run(_ask(app, "POST", "/add-checkpoint", [log.request(old, size).encode()]))


def _get(app: Starlette, path: str) -> _Answer:
    return asyncio.run(_ask(app, "GET", path))


def test_a_checkpoint_is_cosigned_and_served(store: CheckpointStore) -> None:
    app = _app(store)
    answer = _add(app, 0, 7)
    assert answer.status == 200
    assert answer.body == _WITNESS.sign(_LOG.head(7).encode(), TIME)
    served = _get(app, f"/{origin_hash(ORIGIN)}/checkpoint")
    assert served.status == 200
    assert served.headers["content-type"] == "text/plain; charset=utf-8"
    assert served.body == _LOG.checkpoint(7) + answer.body


def test_a_conflict_states_the_size_and_nothing_else(store: CheckpointStore) -> None:
    app = _app(store)
    _add(app, 0, 7)
    answer = _add(app, 5, 9)
    assert (answer.status, answer.body) == (409, b"7\n")
    assert answer.headers["content-type"] == SIZE_CONTENT_TYPE


def test_a_body_above_16_kib_is_refused_while_it_arrives(store: CheckpointStore) -> None:
    app = _app(store)
    taken = 0

    def chunks() -> Iterable[bytes]:
        nonlocal taken
        for _ in range(64):
            taken += 1
            yield bytes(1024)

    answer = asyncio.run(_ask(app, "POST", "/add-checkpoint", chunks()))
    assert answer.status == 413


def test_too_many_requests_of_one_peer_are_refused(store: CheckpointStore) -> None:
    app = _app(store, burst=2)
    assert [_add(app, 0, 7).status, *(_add(app, 7, 7).status for _ in range(3))] == [200, 200, 200, 429]


def test_a_log_that_grows_meets_no_limit_and_whoever_repeats_its_checkpoints_does(store: CheckpointStore) -> None:
    app = _app(store, burst=1)
    assert {_add(app, size, size + 1).status for size in range(15)} == {200}
    assert _add(app, 3, 4).status == 409  # anybody may have sent this: it is counted
    assert _add(app, 15, 16).status == 429


def test_overload_is_refused_and_passes(store: CheckpointStore) -> None:
    hold, entered = threading.Event(), threading.Semaphore(0)

    class Slow(Cosigner):
        def add_checkpoint(self, body: bytes) -> bytes | Refused:
            entered.release()
            hold.wait(30)
            return super().add_checkpoint(body)

    app = create_app(Slow(_WITNESS, [log_signer().vkey], store, lambda: TIME), TokenBuckets(1, 1000, lambda: 0.0))
    body = _LOG.request(0, 7).encode()

    async def run() -> tuple[int, list[int]]:
        first = [asyncio.create_task(_ask(app, "POST", "/add-checkpoint", [body])) for _ in range(16)]
        for _ in range(16):
            await asyncio.to_thread(entered.acquire)
        refused = await _ask(app, "POST", "/add-checkpoint", [body])
        hold.set()
        return refused.status, [answer.status for answer in await asyncio.gather(*first)]

    refused, others = asyncio.run(run())
    assert refused == 429
    assert sorted(others) == [200] + [409] * 15
    assert _add(app, 7, 9).status == 200


def test_a_failed_disk_answers_503_says_nothing_and_shows_in_health(store: CheckpointStore, disk: Any) -> None:
    app = _app(store)
    assert _get(app, "/health").status == 200
    disk.fail = "sync 0"
    answer = _add(app, 0, 7)
    assert (answer.status, answer.body) == (503, b"nothing was signed\n")
    assert _get(app, "/health").status == 503
    assert _get(app, f"/{origin_hash(ORIGIN)}/checkpoint").status == 503


def test_a_damaged_record_answers_500_without_saying_why(store: CheckpointStore) -> None:
    class Broken(Cosigner):
        def add_checkpoint(self, body: bytes) -> bytes | Refused:
            raise ConfigError("a path and other things that strangers need not know")

    app = create_app(Broken(_WITNESS, [log_signer().vkey], store, lambda: TIME), TokenBuckets(1, 9, lambda: 0.0))
    answer = _add(app, 0, 7)
    assert (answer.status, answer.body) == (500, b"nothing was signed\n")


def test_metrics_count_answers_and_state_the_size(store: CheckpointStore) -> None:
    app = _app(store)
    _add(app, 0, 7)
    _add(app, 5, 7)
    text = _get(app, "/metrics").body.decode()
    assert 'custody_witness_add_checkpoint_total{status="200"} 1.0' in text
    assert 'custody_witness_add_checkpoint_total{status="409"} 1.0' in text
    assert f'custody_witness_tree_size{{origin="{ORIGIN}"}} 7.0' in text


def test_other_paths_and_methods_are_refused(store: CheckpointStore) -> None:
    app = _app(store, prefix="/witness")
    for path in ("/", "/add-checkpoint", "/witness/lock/checkpoint", "/witness/../lock/checkpoint", "/checkpoint"):
        assert _get(app, path).status == 404
    assert _get(app, "/witness/add-checkpoint").status == 405
    assert asyncio.run(_ask(app, "POST", "/witness/add-checkpoint", [b"garbage"])).status == 400


def test_a_client_that_hangs_up_gets_nothing_signed(store: CheckpointStore) -> None:
    app = _app(store)

    async def run() -> None:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/add-checkpoint", "headers": [], "query_string": b""}
        await app(scope, receive, send)

    asyncio.run(run())
    assert _get(app, f"/{origin_hash(ORIGIN)}/checkpoint").status == 404
