"""The keys of a direct session, as the broker sends them: sealed to the job's own key, for one entry of the log.

::

    sealed  = HPKE to the X-Wing key in the job's open document (custody.crypto.hpke)
    info    = direct_info(request digest, leaf hash of the session's intent, file index)
    content = file key (32) || digest key (32)

Everything in the info was verified here before it is used, so keys of another session, request or file do not open.
That they are the version's keys is shown by what they are used for: the FLOE header commits to the file key, and each
segment's digest is in a list whose own digest the sealer signed.
"""

from collections.abc import Collection
from typing import Final

from custody.crypto import hpke
from custody.crypto.secret import SecretBytes
from custody.errors import CustodyError, FormatError
from custody.wire.messages import OpenReply

__all__ = ["unseal"]

_KEY: Final = 32

_Keys = dict[int, SecretBytes]


def unseal(
    seed: SecretBytes, request: str, leaf: bytes, files: Collection[int], reply: OpenReply
) -> tuple[_Keys, _Keys]:
    """Return digest keys and file keys by file index; the caller closes them.

    ``request`` is the request's digest in hex, ``leaf`` the verified leaf hash. Raises ``FormatError`` unless there are
    sealed keys of exactly these files, ``IntegrityError`` for keys that were not sealed to ``seed`` for this session.
    """
    if set(reply.sealed_keys) != set(files) or reply.digest_keys:
        raise FormatError("the broker did not give the sealed keys of each file of the session, and nothing else")
    digest_keys: _Keys = {}
    file_keys: _Keys = {}
    try:
        for file in sorted(files):
            with SecretBytes(2 * _KEY) as pair:
                info = hpke.direct_info(bytes.fromhex(request), leaf, file)
                hpke.open_into(seed, info, reply.sealed_keys[file], pair)
                file_keys[file] = SecretBytes.take(pair.view[:_KEY])
                digest_keys[file] = SecretBytes.take(pair.view[_KEY:])
    except CustodyError:
        for key in (*digest_keys.values(), *file_keys.values()):
            key.close()
        raise
    return digest_keys, file_keys
