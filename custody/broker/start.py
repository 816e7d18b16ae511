"""Starting and ending a broker: what a restart must put right before anybody is served.

1. fold the journal (each row's MAC and each rule), go on in a successor where the log has ended, and let the publisher
   agree with what was published;
2. log roots that were given and not logged yet;
3. honour stops that took effect before the crash;
4. give open leases back to ``granted``: their keys died with the old process (``broker-lost``);
5. make new release keys for requests that wait for shares; custodians send theirs again with ``custody release``.
"""

from collections.abc import Sequence
from typing import Final

from custody.broker.closing import close_overdue, end_session, wipe_all
from custody.broker.context import Context
from custody.broker.requests import log_release_key
from custody.broker.stops import honour_tombstones
from custody.broker.succession import enter_successor
from custody.broker.trust import adopt_root
from custody.documents.dsse import Envelope
from custody.documents.root import Root
from custody.errors import ConfigError, CustodyError

__all__ = ["begin", "end"]

_GOODBYE: Final = 3.0
"""Seconds that an orderly end waits for the log: keys are wiped by then, and witnesses that answer do so in less."""


def begin(context: Context, roots: Sequence[Envelope]) -> None:
    """Put everything right. ``roots`` are the roots of the deployment from genesis on, as configured.

    Raises ``ConfigError`` when the configured roots and the log disagree, ``IntegrityError`` when the journal breaks a
    rule: then nothing is served.
    """
    ledger = context.ledger
    ledger.fold()
    enter_successor(context, roots)
    ledger.publisher.recover()
    if ledger.publisher.published.size:
        # The witnesses confirm the last checkpoint, and that our clock is near theirs, before anything is written.
        ledger.publisher.publish_once()
    with ledger.reading() as state:
        logged = list(zip(state.root_envelopes, state.root_entries, strict=True))
    for epoch, envelope in enumerate(roots):
        if epoch < len(logged):
            digest, entry = logged[epoch]
            if envelope.document(Root).digest != ledger.envelope(digest, int(entry.index)).digest:
                message = f"the trust root of epoch {epoch} that is configured is not the one in the log"
                raise ConfigError(message)
        else:
            adopt_root(context, envelope)
    with ledger.reading() as state:
        if not state.roots:
            message = "no trust root is configured"
            raise ConfigError(message, hint="custody root create makes one")
        broker = state.root.broker(ledger.identity.id)
        if broker is None or broker.key_id != ledger.identity.signer.key_id:
            message = f"the trust root does not name this broker ({ledger.identity.id}) with this key"
            raise ConfigError(message, hint="check broker.id and broker.key in the configuration")
        if context.policy.digest != state.root.policy:
            message = f"the policy here has digest {context.policy.digest[:16]}…, the trust root names another"
            raise ConfigError(message, hint="put back the policy files, or sign a new trust root")
    ledger.append("system", actor=ledger.identity.party, reason="broker-start")
    ledger.publisher.start()
    honour_tombstones(context)
    _give_back(context)
    close_overdue(context)
    _new_release_keys(context)


def end(context: Context, reason: str = "broker-stop") -> None:
    """Wipe every key, log what sessions were served, say goodbye, and wait until all of it is published. What cannot be
    logged or published any more is put right by the next start.
    """
    wipe_all(context)
    ledger = context.ledger
    try:
        _give_back(context)
        index = ledger.append("system", actor=ledger.identity.party, reason=reason)
        ledger.receipt(index, _GOODBYE)
    except CustodyError:
        return  # database, store or witness is gone too; the next start does the same from the journal
    finally:
        context.opener.close()


def _give_back(context: Context) -> None:
    """Log ``broker-lost`` for every lease that is open (or was being opened)."""
    ledger = context.ledger
    for session in context.sessions.all():
        end_session(context, session, "aborted", "broker-stop")
    with ledger.reading() as state:
        lost = [found for found in state.live.values() if found.phase == "open" or found.opening is not None]
        for found in lost:
            ledger.append("close", request=found.digest, terms=found.granted, reason="broker-lost", parent=found.entry)


def _new_release_keys(context: Context) -> None:
    ledger = context.ledger
    with ledger.reading() as state:
        waiting = [found.digest for found in state.live.values() if found.phase in ("requested", "granted")]
        deployment = state.deployment
    for request in waiting:
        log_release_key(context, deployment, request)
