"""The digest of a policy bundle: what the trust root names, so that nobody changes the policy alone.

::

    digest = SHA-256(lp(name 0) || lp(bytes 0) || lp(name 1) || lp(bytes 1) || ...)     files sorted by name

A bundle is the files of one directory (``policy.cedar``, ``schema.cedarschema``); names are ASCII and hold no slash.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from custody.crypto.encoding import lp
from custody.errors import FormatError

__all__ = ["bundle_digest"]

_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


def bundle_digest(files: Mapping[str, bytes]) -> str:
    """Return the digest of the files by name, hex. ``FormatError`` for an empty bundle or a name that is none."""
    if not files:
        raise FormatError("policy bundle: it holds no file")
    state = hashlib.sha256()
    for name in sorted(files):
        if not _NAME.fullmatch(name):
            raise FormatError(f"policy bundle: {name[:80]!a} is not a file name")
        state.update(lp(name.encode("ascii")) + lp(files[name]))
    return state.hexdigest()
