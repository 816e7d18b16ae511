"""The HTTP side of a witness (tlog-witness).

::

    POST <prefix>/add-checkpoint                    200 cosignature lines, or 400 403 404 409 413 422 429 503
    GET  <prefix>/<hex sha256(origin)>/checkpoint   the last cosigned checkpoint of a followed log, or 404
    GET  /health                                    200, or 503 when nothing is signed any more
    GET  /metrics                                   Prometheus text

Whoever asks is unknown. Bodies are capped at 16 KiB and must arrive within a deadline, requests are counted per peer
address unless they bring a larger tree, few are worked on at once, and answers say no more than the protocol wants.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from custody.errors import CustodyError, UnavailableError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import Note
from custody.tlog.witness_protocol import MAX_BODY_SIZE, SIZE_CONTENT_TYPE, AddCheckpoint
from custody.witness.cosigner import Cosigner
from custody.witness.limits import TokenBuckets
from custody.witness.state import origin_hash

__all__ = ["Metrics", "create_app"]

_TEXT = "text/plain; charset=utf-8"
_MAX_AT_ONCE = 16  # requests past the limits; each holds at most 16 KiB and one thread
_BODY_DEADLINE = 10.0  # seconds


@dataclass(slots=True)
class Metrics:
    """What operators of a witness look at."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    requests: Counter = field(init=False)
    size: Gauge = field(init=False)

    def __post_init__(self) -> None:
        self.requests = Counter(
            "custody_witness_add_checkpoint", "Requests to add-checkpoint.", ["status"], registry=self.registry
        )
        self.size = Gauge(
            "custody_witness_tree_size", "Leaves in the last cosigned checkpoint.", ["origin"], registry=self.registry
        )


class _Witness:
    """The handlers and what they share."""

    def __init__(self, cosigner: Cosigner, buckets: TokenBuckets, metrics: Metrics) -> None:
        self._cosigner = cosigner
        self._buckets = buckets
        self._metrics = metrics
        self._working = 0

    async def add_checkpoint(self, request: Request) -> Response:
        """Answer and count."""
        response = await self._answer(request)
        self._metrics.requests.labels(str(response.status_code)).inc()
        return response

    async def _answer(self, request: Request) -> Response:
        peer = request.client.host if request.client else ""
        if self._working >= _MAX_AT_ONCE or not self._buckets.take(peer):
            return PlainTextResponse("too many requests\n", 429, {"Retry-After": "1"})
        self._working += 1
        try:
            body = await _read_body(request)
            if isinstance(body, Response):
                return body
            answer = await run_in_threadpool(self._cosigner.add_checkpoint, body)
        except UnavailableError:
            return PlainTextResponse("nothing was signed\n", 503)
        except CustodyError:
            return PlainTextResponse("nothing was signed\n", 500)
        finally:
            self._working -= 1
        if isinstance(answer, bytes):
            if _grew(body):
                self._buckets.give_back(peer)
            return Response(answer, media_type=_TEXT)
        if answer.size is not None:
            return Response(f"{answer.size}\n", answer.status, {"Content-Type": SIZE_CONTENT_TYPE})
        return PlainTextResponse(f"{answer.reason}\n", answer.status)

    async def checkpoint(self, request: Request) -> Response:
        """Serve the record of a log."""
        try:
            note = await run_in_threadpool(self._cosigner.latest, request.path_params["origin"])
        except CustodyError:
            return PlainTextResponse("unavailable\n", 503)
        if note is None:
            return PlainTextResponse("not found\n", 404)
        return Response(note, media_type=_TEXT, headers={"Cache-Control": "no-store"})

    async def health(self, request: Request) -> Response:
        """Say whether requests can be answered."""
        del request
        return PlainTextResponse("failed\n", 503) if self._cosigner.failed else PlainTextResponse("ok\n")

    async def metrics(self, request: Request) -> Response:
        """Serve the counters, and the sizes as they are on disk."""
        del request
        for origin in self._cosigner.origins:
            with contextlib.suppress(CustodyError):
                note = await run_in_threadpool(self._cosigner.latest, origin_hash(origin))
                if note is not None:
                    self._metrics.size.labels(origin).set(Checkpoint.parse(Note.parse(note).text).size)
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _grew(body: bytes) -> bool:
    """Tell whether a request that was answered brought a larger tree: only the log itself can make one, and a busy log
    must not meet the limit that is there for strangers. Anybody can send the last checkpoint again.
    """
    request = AddCheckpoint.parse(body)
    return request.old < Checkpoint.parse(Note.parse(request.checkpoint).text).size


async def _read_body(request: Request) -> bytes | Response:
    """Read at most 16 KiB within the deadline; else the answer that says why not."""
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_DEADLINE):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_SIZE:
                    return PlainTextResponse("body too large\n", 413, {"Connection": "close"})
    except TimeoutError:
        return PlainTextResponse("body too slow\n", 408, {"Connection": "close"})
    except ClientDisconnect:
        return PlainTextResponse("disconnected\n", 400)
    return bytes(body)


def create_app(cosigner: Cosigner, buckets: TokenBuckets, *, prefix: str = "") -> Starlette:
    """Build the ASGI application. ``prefix`` is the path of the submission and the monitoring prefix, or ``""``."""
    witness = _Witness(cosigner, buckets, Metrics())
    return Starlette(
        routes=[
            Route(f"{prefix}/add-checkpoint", witness.add_checkpoint, methods=["POST"]),
            Route(f"{prefix}/{{origin}}/checkpoint", witness.checkpoint, methods=["GET"]),
            Route("/health", witness.health, methods=["GET"]),
            Route("/metrics", witness.metrics, methods=["GET"]),
        ]
    )
