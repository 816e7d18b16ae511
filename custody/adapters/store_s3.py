"""S3 as a store: the key, below a prefix, is the object's name.

What ``Store`` promises rests on S3's own: strong consistency, an object visible whole or not at all, and conditional
writes (``If-None-Match: *``) for what must not exist. A server that ignores the condition would let blobs be
overwritten; so it is asked once, before the first write (``probe``). The one mutable name of a log, its checkpoint, is
written by whoever the ledger lets sign: the compare-and-swap is there (``swap_checkpoint``), the last writer wins here.

Reads of open blobs are presigned GETs over connections of our own (``http_blob``), everything else is ``boto3``.
What still is not safe: whoever may write the bucket may delete what is not locked. See ``retain``.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import BinaryIO, Final

from custody.adapters.http_blob import HttpBlob
from custody.adapters.http_pool import HttpPool
from custody.adapters.local_files import check_part, is_part
from custody.adapters.s3_client import connect, explained
from custody.adapters.s3_place import S3Place
from custody.adapters.s3_presigner import S3Presigner
from custody.adapters.s3_writer import S3Writer
from custody.adapters.surroundings import Around
from custody.adapters.whole_blobs import read_whole
from custody.crypto.digests import hasher
from custody.errors import ConfigError, ConflictError, NotFoundError, StoreError
from custody.ports import BlobReader, BlobWriter, LockMode

__all__ = ["S3Store"]

_CHUNK: Final = 1 << 20
_COMPARED: Final = 8 << 20
_DAY: Final = 24 * 3600
_SECONDS: Final = 900  # how long our own URLs hold
_SENDERS: Final = 4
_WRITERS: Final = 16
_PROBE: Final = "probe/put-if-absent"
_PROBED: Final = b"Custody asks here whether this store keeps what exists.\n"


class S3Store(S3Presigner):
    """``Store``, ``Presigner``, ``Retainer`` and ``Sweeper`` over a bucket that exists. Thread-safe."""

    def __init__(self, place: S3Place, around: Around) -> None:
        super().__init__(connect(place), place)
        self._around = around
        self._http = HttpPool(place.ca)
        self._senders = ThreadPoolExecutor(_SENDERS, thread_name_prefix="s3")
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="s3 put")
        self._probing = threading.Lock()
        self._probed = False

    def close(self) -> None:
        """Give up connections and threads."""
        self._writers.shutdown(wait=False, cancel_futures=True)
        self._senders.shutdown(wait=False, cancel_futures=True)
        self._http.close()
        self._client.close()

    def probe(self) -> None:
        """Require that the bucket can be written and keeps what exists; asked once. ``ConfigError`` when not."""
        with self._probing:
            if self._probed:
                return
            name = self._name(_PROBE)
            with suppress(ConflictError), explained(f"s3://{self._bucket}"):
                self._client.put_object(Bucket=self._bucket, Key=name, Body=_PROBED, IfNoneMatch="*")
            try:
                with explained(_PROBE):
                    self._client.put_object(Bucket=self._bucket, Key=name, Body=_PROBED, IfNoneMatch="*")
            except ConflictError:
                pass
            else:
                raise _ignored(self._bucket, "writing")
            self._probe_parts(name)
            self._probed = True

    def put_new(self, key: str, source: BinaryIO | bytes) -> None:
        """See ``Store.put_new``. ``source`` is read to its end in pieces of 1 MiB."""
        with self.writer(key) as writer:
            if isinstance(source, bytes):
                writer.write(source)
                return
            while piece := source.read(_CHUNK):
                writer.write(piece)

    def put_all(self, blobs: Mapping[str, bytes]) -> None:
        """See ``Store.put_all``. Sixteen requests are under way at once."""
        puts = [self._writers.submit(self.put_new, key, data) for key, data in blobs.items()]
        wait(puts)
        for put in puts:
            put.result()

    @contextmanager
    def writer(self, key: str) -> Iterator[BlobWriter]:
        """See ``Store.writer``. Large blobs go out in parts while they are written."""
        name = self._name(key)
        self.probe()
        writer = S3Writer(self._client, self._bucket, name, key, self._senders, lambda: self._stored(key))
        try:
            yield writer
            writer.finish()
        except BaseException:
            writer.abandon()
            raise

    def put(self, key: str, data: bytes) -> None:
        """See ``Store.put``. The last writer wins."""
        name = self._name(key)
        with explained(key):
            self._client.put_object(Bucket=self._bucket, Key=name, Body=data)

    def get(self, key: str, limit: int = 16 << 20) -> bytes:
        """See ``Store.get``."""
        return read_whole(self.open(key), key, limit)

    def open(self, key: str) -> BlobReader:
        """See ``Store.open``. What is read is the version that there is now."""
        blob = self.pin(key)
        return HttpBlob(blob, lambda _: self.presign_get(blob, _SECONDS), self._http, self._around)

    def exists(self, key: str) -> bool:
        """See ``Store.exists``."""
        try:
            self.pin(key)
        except NotFoundError:
            return False
        return True

    def list(self, prefix: str) -> Iterator[str]:
        """See ``Store.list``. Names that are no keys are passed over. All are gathered and sorted here: servers that
        are not AWS sort by folder.
        """
        *folders, start = prefix.split("/")
        for part in [*folders, start] if start else folders:
            check_part(part, prefix)
        return iter(self._listed(prefix))

    def delete(self, key: str, *, durable: bool = True) -> None:  # noqa: ARG002 - a bucket has no other way
        """See ``Store.delete``. In a bucket with versions the bytes stay until its lifecycle rules remove them."""
        name = self._name(key)
        with explained(key):
            self._client.delete_object(Bucket=self._bucket, Key=name)

    def retain(self, key: str, mode: LockMode, until: int) -> None:
        """See ``Retainer.retain``."""
        name = self._name(key)
        with explained(key):
            self._client.put_object_retention(
                Bucket=self._bucket,
                Key=name,
                Retention={
                    "Mode": "COMPLIANCE" if mode == "compliance" else "GOVERNANCE",
                    "RetainUntilDate": datetime.fromtimestamp(until, UTC),
                },
            )

    def sweep(self, now: int, age: int = _DAY) -> int:
        """See ``Sweeper.sweep``: aborts uploads in parts that nobody will end."""
        swept = 0
        with explained("unfinished uploads"):
            for page in self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            ):
                for upload in page.get("Uploads", []):
                    if upload["Initiated"].timestamp() < now - age:
                        self._client.abort_multipart_upload(
                            Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
                        swept += 1
        return swept

    def _listed(self, prefix: str) -> Sequence[str]:
        found = []
        with explained(f"keys below {prefix!a}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for item in page.get("Contents", []):
                    key = item["Key"].removeprefix(self._prefix)
                    if key != _PROBE and all(map(is_part, key.split("/"))):
                        found.append(key)
        return sorted(found)

    def _stored(self, key: str) -> tuple[int, bytes]:
        """Size and BLAKE3 of a blob, read in pieces."""
        blob = self.open(key)
        digest = hasher()
        buffer = memoryview(bytearray(min(_COMPARED, blob.size)))
        for offset in range(0, blob.size, _COMPARED):
            piece = buffer[: blob.size - offset]
            blob.read_into(offset, piece)
            digest.update(piece)
        blob.close()
        return blob.size, digest.digest()

    def _probe_parts(self, name: str) -> None:
        with explained(_PROBE):
            upload = self._client.create_multipart_upload(Bucket=self._bucket, Key=name)["UploadId"]
        try:
            with explained(_PROBE):
                part = self._client.upload_part(
                    Bucket=self._bucket, Key=name, UploadId=upload, PartNumber=1, Body=_PROBED
                )
                self._client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=name,
                    UploadId=upload,
                    MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
                    IfNoneMatch="*",
                )
        except ConflictError:
            with suppress(StoreError), explained(_PROBE):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=upload)
        else:
            raise _ignored(self._bucket, "completing an upload")


def _ignored(bucket: str, doing: str) -> ConfigError:
    return ConfigError(
        f"s3://{bucket}: the server overwrites what exists: it ignores If-None-Match when {doing}",
        hint="use a server that knows conditional writes: AWS S3, MinIO, Ceph, SeaweedFS in their present releases",
    )
