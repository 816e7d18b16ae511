"""Stopping from the caller's side: a signed stop is sent again until its receipt is held."""

from collections.abc import Callable
from functools import partial
from typing import Final, Literal

from custody.client.identity import Identity
from custody.client.link import Link
from custody.documents.dsse import sign
from custody.documents.stop import Stop
from custody.entries.receipt import Receipt
from custody.errors import FormatError, IntegrityError, UnavailableError
from custody.rules.trust import Trust
from custody.values import Time

__all__ = ["PATIENCE", "stop"]

PATIENCE: Final = 24 * 3600.0
"""Seconds for which a stop is sent again, unless told otherwise."""

_NONCE: Final = 32


def stop(
    link: Link,
    identity: Identity,
    action: Literal["withdraw", "return", "revoke"],
    target: str,
    reason: str,
    *,
    patience: float = PATIENCE,
    unconfirmed: Callable[[str], None] | None = None,
) -> Receipt:
    """Sign a stop, send it until it is receipted, and return the verified receipt.

    ``unconfirmed`` is told, after each attempt that failed, what was wrong: the stop may have taken effect, but is NOT
    CONFIRMED. Raises ``UnavailableError`` when ``patience`` seconds are over, ``DeniedError`` where the caller may not
    stop this, ``ConflictError`` where it is closed already.
    """
    credential = identity.credential()
    envelope = sign(
        Stop(
            deployment=link.settings.deployment,
            action=action,
            target=target,
            actor=credential.actor,
            reason=reason,
            nonce=link.around.rng(_NONCE).hex(),
            issued=Time(link.now()),
        ),
        [credential.signer],
    )
    backoff = link.backoff(patience)
    while True:
        try:
            receipt = link.call(lambda calls: calls.stop(envelope), patience=0)
            link.verify(partial(Trust.check_document, receipt=receipt, kind="stop", envelope=envelope))
        except (UnavailableError, IntegrityError, FormatError) as error:
            # A receipt that does not verify confirms nothing; the next attempt may reach an honest log.
            if unconfirmed is not None:
                unconfirmed(error.message)
            if not link.rest(backoff):
                raise UnavailableError(
                    f"NOT CONFIRMED: the {action} was sent, but no receipt came: {error.message}",
                    hint="run it again; until it is confirmed, assume that it did not happen",
                ) from error
        else:
            return receipt
