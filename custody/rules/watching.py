"""Hellos of tools that ask for currency, and what the broker says of itself."""

from typing import Final

from custody.documents.hello import Hello
from custody.entries.entry import Party
from custody.rules.facts import Facts

__all__ = ["LOG_END", "hello", "system"]

LOG_END: Final = "log-end"
"""The reason of a log's last entry."""


def hello(facts: Facts) -> None:
    """A tool's nonce is answered by an entry that names the root in force."""
    document, envelope = facts.document(Hello)
    facts.require(document.deployment == facts.state.deployment, "it is of another deployment")
    facts.use_once(envelope.digest, "hello")
    facts.require_actor(facts.signed(envelope, document.actor))
    facts.fresh(document.issued, "the hello")
    facts.state.used.add(envelope.digest)


def system(facts: Facts) -> None:
    """The broker's own events: start, stop, refused peers, strangers as counts, witness trouble.

    Nothing proves them but the broker's word; an actor it names did not sign anything. One of them ends the log.
    """
    entry = facts.entry
    broker = facts.state.root.broker(entry.broker)
    own = broker is not None and entry.actor == Party(id=f"broker:{entry.broker}", credential=broker.key_id)
    claims = entry.actor is not None and entry.actor.id.startswith("broker:")
    facts.require(own or not claims, "it speaks for another broker")
    if entry.reason == LOG_END:
        facts.require(own, "somebody else than the broker ends the log")
        facts.state.ended = True
