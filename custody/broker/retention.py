"""Object lock: by its retention class a version is made undeletable, for the store's administrators too.

Keys held by custodians are of no use when somebody has deleted the ciphertext (Code Spaces, 2014). The lock is set when
a version comes into custody, before the log says so. It ends by itself; until then the store refuses to delete.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from custody.broker.context import Context
from custody.documents.content import Content
from custody.errors import ConfigError, FormatError
from custody.ports import Retainer
from custody.segments.layout import FilePlan, manifest_key

__all__ = ["lock_version"]

_AT_ONCE: Final = 16


def lock_version(context: Context, content: Content) -> None:
    """Lock all blobs of a version, as its retention class says. Where no class has a rule, nothing is locked.

    ``FormatError`` for a class without a rule where others have one: a typing error must not cost the lock.
    """
    if not context.locks:
        return
    rule = context.locks.get(content.retention)
    if rule is None:
        known = ", ".join(sorted(context.locks))
        raise FormatError(f"{content.version}: retention class {content.retention}", hint=f"this broker knows {known}")
    if rule.mode is None:
        return
    store, mode = context.store, rule.mode
    if not isinstance(store, Retainer):
        raise ConfigError("store: this one cannot lock what it holds", hint="take [store.lock] out, or use S3")
    until = context.ledger.clock() + rule.seconds
    plans = [FilePlan.of(content, index) for index in range(len(content.files))]
    keys = [key for plan in plans for key in (plan.ciphertext_key, plan.digests_key)]
    with ThreadPoolExecutor(_AT_ONCE, "lock") as pool:
        for done in [
            pool.submit(store.retain, key, mode, until) for key in [*keys, manifest_key(bytes.fromhex(content.vid))]
        ]:
            done.result()
