"""A receipt as a file, to be kept and checked offline.

::

    {"entry": base64 of the leaf bytes, "proof": base64 of the tlog-proof, "schema": "custody/receipt/v1"} LF

Canonical JSON (``custody.documents.codec``), so one receipt has one spelling; only the line feed may be missing.
Nothing is verified by parsing: that is ``custody.entries.receipt.verify``.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta

from custody.documents.codec import Record, decode, encode
from custody.entries.entry import MAX_ENTRY
from custody.entries.receipt import MAX_RECEIPT, Receipt
from custody.errors import FormatError
from custody.tlog.proof import MAX_PROOF_SIZE

__all__ = ["MAX_RECEIPT_FILE", "encode_receipt", "parse_receipt"]

MAX_RECEIPT_FILE: Final = 2 * MAX_RECEIPT
"""Bytes: base64 takes a third more."""


class _File(Record, frozen=True, kw_only=True):
    schema: Literal["custody/receipt/v1"]
    entry: Annotated[bytes, Meta(max_length=MAX_ENTRY)]
    proof: Annotated[bytes, Meta(max_length=MAX_PROOF_SIZE)]


def encode_receipt(receipt: Receipt) -> bytes:
    """Return the bytes of the file."""
    return encode(_File(schema="custody/receipt/v1", entry=receipt.entry, proof=receipt.proof)) + b"\n"


def parse_receipt(data: bytes) -> Receipt:
    """Read the bytes of a file. Raises ``FormatError``; verifies nothing."""
    if len(data) > MAX_RECEIPT_FILE:
        raise FormatError(f"receipt: {len(data)} bytes, at most {MAX_RECEIPT_FILE} are allowed")
    file = decode(data.removesuffix(b"\n"), _File, "receipt")
    return Receipt(file.entry, file.proof)
