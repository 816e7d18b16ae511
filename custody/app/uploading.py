"""Sealing through a broker: for a sealer who has no store, only the right to seal a name."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Self

from custody.adapters.home import Home
from custody.adapters.surroundings import Surroundings
from custody.app.registering import Registered, require_manifest
from custody.app.sealing import OVER_A_NETWORK, Sealing
from custody.client.link import Link
from custody.client.settings import Settings
from custody.client.upload import Upload
from custody.documents.content import Content
from custody.documents.manifest import Manifest
from custody.segments.layout import FilePlan
from custody.segments.streams import Sink

__all__ = ["IntoBroker"]


class IntoBroker:
    """``custody.app.sealing.Target`` at a broker: what is published is in custody at once, as ``registered`` says.

    A context manager: it holds a connection.
    """

    def __init__(self, home: Home, around: Surroundings) -> None:
        self._link = Link(Settings.of_home(home), around, home)
        self._upload: Upload | None = None
        self.registered: Registered | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._upload is not None:
            self._upload.close()
        self._link.close()

    @property
    def ends(self) -> int:
        """See ``Target.ends``."""
        return OVER_A_NETWORK

    @contextmanager
    def sealing(self, vid: bytes, job: Sealing) -> Iterator[None]:
        """See ``Target.sealing``. ``DeniedError`` where the broker does not let this sealer seal the name."""
        files = sorted(job.files, key=lambda file: file.path)
        plans = [FilePlan(vid, index, file.size, job.segment, file.path) for index, file in enumerate(files)]
        sizes = [plan.size for plan in plans]
        reply = self._link.call(lambda calls: calls.begin_upload(job.version, vid, job.segment, sizes))
        blobs = {plan.ciphertext_key: (plan.index, False, plan.stored_size) for plan in plans}
        blobs |= {plan.digests_key: (plan.index, True, plan.digests_size) for plan in plans}
        self._upload = upload = Upload(self._link, reply, blobs)
        try:
            yield
        except BaseException:
            upload.abort()
            raise

    def writer(self, key: str) -> AbstractContextManager[Sink]:
        """See ``Target.writer``."""
        return self._begun().writer(key)

    def give_up(self) -> None:
        """See ``Target.give_up``."""
        if self._upload is not None:
            self._upload.give_up()

    def publish(self, _vid: bytes, manifest: bytes) -> None:
        """See ``Target.publish``. The log's receipt is verified."""
        receipt = self._begun().finish(manifest)
        content = Manifest.parse(manifest).content
        verified = self._link.verify(lambda trust: require_manifest(trust, receipt, content.digest))
        self.registered = Registered(content.document(Content).version, content.digest, verified.index)

    def _begun(self) -> Upload:
        if self._upload is None:
            raise ValueError("nothing was begun")
        return self._upload
