"""A deployment that permits direct mode, with its store's directory open to jobs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from custody.adapters.surroundings import Surroundings
from custody.app.deployment import read_bundle
from custody.app.sealing import Sealed
from custody.client import Custody, Settings
from custody.client.link import BoundedCalls
from custody.crypto import hpke
from custody.crypto.secret import SecretBytes
from custody.crypto.sodium import random_into
from custody.documents.dsse import Envelope
from custody.documents.root import Root
from custody.rules.bundle import bundle_digest
from custody.wire.messages import RequestReply
from tests.doubles.site import DEPLOYMENT, Site, swapped

__all__ = ["DirectSite", "JobKey", "settings_of"]


@dataclass
class DirectSite(Site):
    """As ``Site``; ``how`` is what the configuration says of direct access, None for nothing."""

    how: str | None = ""

    def make_root(self) -> Root:
        policy = self.directory / "broker/policy/policy.cedar"
        text = policy.read_text()
        permitted = '["stream", "direct"].contains(context.mode)'
        policy.write_text(swapped(text, 'context.mode == "stream"\n', f"{permitted}\n"))
        return replace(super().make_root(), policy=bundle_digest(read_bundle(policy.parent)))

    def configure(self, change: Callable[[str], str] | None = None) -> Path:
        how = str((self.directory / "store").resolve()) if self.how == "" else self.how
        given = change or self.change_config
        direct = "" if how is None else f'direct = "{how}"\n'
        return super().configure(lambda text: given(swapped(text, "[store]\n", f"[store]\n{direct}")))

    def granted_direct(self, sealed: Sealed, **changes: object) -> tuple[RequestReply, str]:
        """A granted request for direct mode, and its lease id."""
        return self.granted(sealed, mode="direct", **changes)

    def job(self, around: Surroundings | None = None, **lies: Any) -> Custody:
        """A job's program, whose broker tells these lies: methods by name."""
        kind = type("Lying", (BoundedCalls,), lies)
        connect = lambda at, _now: kind(at.address, at.server_name, at.tls)  # noqa: E731 - one expression
        return Custody(settings_of(self), around=around or Surroundings.real(), connect=connect)

    def open_direct(self, lease: str, sealed: Sealed, key: "JobKey", **changes: Any) -> Envelope:
        """A signed open document for direct mode; not sent."""
        files = changes.pop("files", set(range(len(sealed.content.files))))
        whole = sum(int(file.size) for index, file in enumerate(sealed.content.files) if index in files)
        size = changes.pop("size", whole)
        return self.open_document(lease, files, size, **({"xwing": key.public} | changes))


class JobKey:
    """An X-Wing key of a job, for one session."""

    def __init__(self) -> None:
        self.seed = SecretBytes.random(hpke.SEED_SIZE, random_into)
        self.public = hpke.public_key(self.seed)

    def unseal(self, request: str, leaf: bytes, file: int, sealed: bytes) -> bytes:
        """File key and digest key."""
        with SecretBytes(64) as pair:
            hpke.open_into(self.seed, hpke.direct_info(bytes.fromhex(request), leaf, file), sealed, pair)
            return bytes(pair.view)


def settings_of(site: Site) -> Settings:
    """How a job reaches this deployment."""
    return Settings(DEPLOYMENT, site.root_envelope.digest, site.address, "broker-1.custody", site.tls("tls/job"))
