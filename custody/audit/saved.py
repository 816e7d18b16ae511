"""What an audit remembers for the next one: a size and a root. A later log must continue it.

::

    {"deployment", "genesis", "root": hex, "schema": "custody/audit/v1", "size": decimal string}     canonical JSON, LF
"""

from typing import Final, Literal

from custody.documents.codec import Record, decode, encode
from custody.errors import IntegrityError
from custody.values import U64, Deployment, Digest

__all__ = ["MAX_SAVED", "Saved"]

MAX_SAVED: Final = 4096
"""Bytes."""


class Saved(Record, frozen=True, kw_only=True):
    """The log as an earlier run verified it."""

    schema: Literal["custody/audit/v1"] = "custody/audit/v1"
    deployment: Deployment
    genesis: Digest
    size: U64
    root: Digest

    @classmethod
    def parse(cls, data: bytes, what: str) -> "Saved":
        """Read the bytes of a file. Raises ``FormatError`` naming ``what``."""
        return decode(data.removesuffix(b"\n"), cls, what)

    def encode(self) -> bytes:
        """Return the bytes of the file."""
        return encode(self) + b"\n"

    def require_pins(self, deployment: str, genesis: str) -> None:
        """Raise ``IntegrityError`` where this is the memory of another deployment's log."""
        if (self.deployment, self.genesis) != (deployment, genesis):
            raise IntegrityError(
                f"the saved state is of deployment {self.deployment}, genesis {self.genesis[:16]}…",
                hint="keep one state file for each deployment",
            )
