"""Puts a broker together from its configuration and runs it."""

import asyncio
import gc
import hashlib
import logging
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, NamedTuple

import custody
from custody.adapters.ledger import open_journal
from custody.adapters.policy_cedar import CedarPolicy
from custody.adapters.witness_http import HttpWitness
from custody.app.broker_config import BrokerConfig
from custody.app.broker_parts import (
    database_url,
    direct_access,
    load_log_signer,
    load_row_key,
    lock_rules,
    secret_file,
    store_at,
)
from custody.app.deployment import read_bundle
from custody.app.logs import start_logging
from custody.app.proving import proving
from custody.app.roots import read_envelope
from custody.app.witness_claims import require_unseen
from custody.broker.clock import SteadyClock
from custody.broker.context import Context
from custody.broker.ledger import BrokerIdentity, Ledger
from custody.broker.opener import Opener
from custody.broker.pruning import Pruner
from custody.broker.refusals import Refusals
from custody.broker.start import begin, end
from custody.broker.upkeep import Upkeep
from custody.broker.upload_sessions import UploadLimits, Uploads
from custody.crypto.secret import harden_process
from custody.crypto.serverkey import ServerKey
from custody.crypto.sodium import random_into
from custody.crypto.svid import identity_of
from custody.documents.root import Root
from custody.errors import ConfigError, CustodyError, UnavailableError
from custody.ports import Store
from custody.publishing.archive import WholeJournal
from custody.publishing.publisher import Publisher
from custody.rules.roots import policies_of
from custody.rules.state import State
from custody.rules.trust import policy_of
from custody.server.run import Listen, run
from custody.tlog.note import VKey
from custody.tlog.policy import Policy
from custody.wire.tls import TlsFiles

__all__ = ["OpenLedger", "build_digest", "open_ledger", "serve"]

_log: Final = logging.getLogger("custody.broker")


class _DocumentSigner:
    """The broker's key as documents know it."""

    def __init__(self, key: ServerKey) -> None:
        self._key = key

    @property
    def key_id(self) -> str:
        """The key id, hex."""
        return self._key.key_id.hex()

    def sign(self, message: bytes) -> bytes:
        """Sign with Ed25519."""
        return self._key.sign(message)


def build_digest() -> str:
    """Return the digest of the code that runs: SHA-256 over every Python file of the package, by path."""
    folder = Path(custody.__file__).parent
    state = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        state.update(f"{path.relative_to(folder)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()


def serve(config: BrokerConfig, folder: Path, ready: Callable[[str], None]) -> None:
    """Run the broker until SIGTERM. ``folder`` is where relative paths begin; ``ready`` is told the address.

    Raises ``ConfigError`` for whatever is wrong with the installation, ``IntegrityError`` when ledger, log and roots
    contradict each other: nothing is served then.
    """
    harden_process()
    _raise_limits()
    start_logging()
    with ExitStack() as stack:
        opened = open_ledger(config, folder, stack)
        ledger, journal, log = opened.ledger, opened.journal, opened.log
        roots = [read_envelope(folder / path) for path in config.roots]
        if not journal.size() and roots:
            for reason in require_unseen(config, roots[-1].document(Root), opened.log_key):
                _trouble(UnavailableError(f"{reason}: whether it has seen more of this log shows when it answers"))
        stops = folder / config.state
        stops.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = store_at(config.store.url, folder)
        context = Context(
            ledger=ledger,
            store=store,
            log=log,
            policy=CedarPolicy(read_bundle(folder / config.policy.directory)),
            opener=Opener(),
            stops=stops,
            receipt_timeout=float(config.receipt_timeout),
            direct=direct_access(config.store.direct, store),
            uploads=Uploads(UploadLimits(config.store.upload_gib << 30, config.store.upload_hours * 3600)),
            locks=lock_rules(config),
        )
        stack.callback(context.opener.close)
        begin(context, roots)
        refusals = Refusals(time.monotonic)
        upkeep = Upkeep(context, refusals, monotonic=time.monotonic, trouble=_trouble)
        upkeep.start()
        stack.callback(upkeep.stop)
        if config.ledger.prune_after_days is not None:
            pruner = Pruner(ledger, journal, log, config.ledger.prune_after_days, trouble=_trouble)
            pruner.start()
            stack.callback(pruner.stop)
        with ledger.reading() as current:
            domain = current.root.trust_domain
            broker = current.root.broker(ledger.identity.id)
        tls = TlsFiles(folder / config.tls.certificate, folder / config.tls.key, folder / config.tls.ca)
        if broker is None or identity_of(tls.chain()[0]) != broker.identity:
            raise ConfigError(
                f"{tls.certificate} is not of the identity that the trust root names for broker {ledger.identity.id}",
                hint=f"issue one for {broker.identity if broker else 'a broker of the trust root'}",
            )
        listen = Listen(
            address=config.listen.address,
            tls=tls,
            trust_domain=domain,
            max_age=config.listen.max_connection_age,
            grace=config.listen.max_connection_grace,
            calls=config.listen.call_threads,
            reads=config.listen.read_threads,
            hellos=config.listen.hellos_per_minute,
            filed=config.listen.requests_per_minute,
        )
        gc.freeze()  # what the start has made stays, however many entries it is: no collection looks at it again
        gc.set_threshold(10_000)  # calls under way are no garbage; Python would look at them after every 700 objects
        try:
            asyncio.run(run(listen, context, refusals, ready))
        finally:
            context.vault.wipe()  # before anything is waited for
            upkeep.stop()  # whatever it has to log comes before the goodbye, which is the last to be published
            end(context)


class OpenLedger(NamedTuple):
    """The ledger of a broker, not folded yet; its journal, pruned entries included; the log's store and its key."""

    ledger: Ledger
    journal: WholeJournal
    log: Store
    log_key: VKey


def open_ledger(config: BrokerConfig, folder: Path, stack: ExitStack) -> OpenLedger:
    """Open a broker's ledger with its keys and its publisher; ``stack`` closes them. Raises as ``serve``."""
    clock = SteadyClock(time.time, time.monotonic)
    key = stack.enter_context(ServerKey.load(secret_file(config.broker.key, folder)))
    row_key = stack.enter_context(load_row_key(secret_file(config.ledger.row_key, folder)))
    log = store_at(config.log.store, folder)
    stack.callback(log.close)
    rows = open_journal(database_url(config.ledger.url, folder), row_key.view, config.deployment)
    stack.callback(rows.close)
    journal = WholeJournal(rows, log)
    identity = BrokerIdentity(config.broker.id, _DocumentSigner(key), build_digest())
    state = State(config.deployment, config.genesis)
    holder: list[Ledger] = []
    signer = load_log_signer(secret_file(config.log.key, folder))
    publisher = Publisher(
        journal,
        log,
        signer,
        policies=lambda old, new: _policies(holder[0], old, new),
        witnesses=_Witnesses(config, lambda: holder[0]),
        clock=clock,
    )
    stack.callback(publisher.stop)
    ledger = Ledger(journal, publisher, state, identity, clock=clock, rng=_rng, prover=proving)
    stack.callback(ledger.close)
    holder.append(ledger)
    return OpenLedger(ledger, journal, log, signer.vkey)


class _Witnesses:
    """The witnesses of the policy in force, with the URLs from the configuration; connections are kept."""

    def __init__(self, config: BrokerConfig, ledger: Callable[[], Ledger]) -> None:
        self._config = config
        self._ledger = ledger
        self._made: dict[tuple[str, bytes], HttpWitness] = {}

    def __call__(self) -> Sequence[HttpWitness]:
        with self._ledger().reading() as state:
            policy = policy_of(state.root)
        found = []
        for witness in policy.counted():
            url = self._config.witnesses.get(witness.name) or witness.url
            if not url:
                raise ConfigError(
                    f"no URL for witness {witness.name}", hint="name it under [witnesses] in the configuration"
                )
            key = (witness.name, witness.vkey.encode().encode())
            if key not in self._made:
                self._made[key] = HttpWitness(
                    witness.name, witness.vkey, url, timeout=float(self._config.witness_timeout)
                )
            found.append(self._made[key])
        return found


def _policies(ledger: Ledger, old: int, new: int) -> Sequence[Policy]:
    """Every policy in force between two sizes: a checkpoint that covers a change satisfies the old and the new."""
    with ledger.reading() as state:
        places = [int(entry.index) for entry in state.root_entries]
        first = max((epoch for epoch, index in enumerate(places) if index < old), default=0)
        last = max((epoch for epoch, index in enumerate(places) if index < new), default=0)
        roots = state.roots[first : last + 1]
    return policies_of(roots)


def _raise_limits() -> None:
    """Have as many descriptors as this process may have: each caller's connection takes one, and each open file."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # the system's own limit is lower by now
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _rng(size: int) -> bytes:
    buffer = bytearray(size)
    random_into(memoryview(buffer))
    return bytes(buffer)


def _trouble(error: CustodyError) -> None:
    _log.warning("trouble", extra={"fields": {"error": type(error).__name__, "message": error.message}})
