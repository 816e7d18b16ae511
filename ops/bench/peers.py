"""What users would take instead, on the same tensors. Each is made ready here, which raises where it cannot be.

Made to be put into ``rows.beside``: the libraries are imported here and nowhere else.
"""

import base64
import importlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ops.bench.model import Model

__all__ = ["Age", "CryptoTensors", "Tensorizer", "cp", "safetensors_private_copy"]

_Run = Callable[[], object]
_AGE: Final = 4
"""age is so slow that it gets a quarter of the model."""


def cp(model: Model, to: Path) -> _Run:
    """The command, in a process of its own as ever."""
    program = shutil.which("cp")
    if program is None:
        raise ImportError("there is no cp")
    return lambda: subprocess.run([program, "--reflink=never", model.path, to], check=True)  # noqa: S603 - two files of ours


def safetensors_private_copy(model: Model) -> _Run:
    """Plaintext, mapped from the file and then copied: what is loaded no longer changes when the file does."""
    module = importlib.import_module("safetensors.torch")
    return lambda: {name: tensor.clone() for name, tensor in module.load_file(model.path).items()}


class Tensorizer:
    """CoreWeave's tensorizer, plain or encrypted with a key at hand."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._library = importlib.import_module("tensorizer")
        self._key = os.urandom(32)

    def save(self, to: Path, *, encrypted: bool) -> _Run:
        """Save to a file."""
        tensors = self._model.torch_tensors()
        how = self._library.EncryptionParams(key=self._key) if encrypted else None

        def run() -> None:
            serializer = self._library.TensorSerializer(str(to), encryption=how)
            serializer.write_state_dict(tensors)
            serializer.close()

        return run

    def load(self, path: Path, *, encrypted: bool) -> _Run:
        """Load such a file, which is made first, into memory; two readers."""
        self.save(path, encrypted=encrypted)()
        how = self._library.DecryptionParams.from_key(self._key) if encrypted else None

        def run() -> object:
            with self._library.TensorDeserializer(str(path), device="cpu", encryption=how, num_readers=2) as loaded:
                return dict(loaded)

        return run


@dataclass
class Age:
    """age through pyrage, file to file and bytes to bytes, with a part of the model."""

    model: Model

    def __post_init__(self) -> None:
        """Make a key."""
        self._library = importlib.import_module("pyrage")
        self._identity = self._library.x25519.Identity.generate()
        self.size = self.model.size // _AGE

    def encrypt(self, source: Path, to: Path) -> _Run:
        """Encrypt the part, which is copied to a file of its own first."""
        source.write_bytes(self.model.memory[: self.size])
        return lambda: self._library.encrypt_file(str(source), str(to), [self._identity.to_public()])

    def decrypt(self) -> _Run:
        """Decrypt the part in memory."""
        stored = self._library.encrypt(bytes(self.model.memory[: self.size]), [self._identity.to_public()])
        return lambda: self._library.decrypt(stored, [self._identity])


class CryptoTensors:
    """Encrypted safetensors, with keys at hand: it saves so slowly that only loading is timed."""

    def __init__(self, model: Model, path: Path) -> None:
        self._path = path
        package = importlib.import_module("cryptotensors")
        self._library = importlib.import_module("cryptotensors.torch")
        signer = Ed25519PrivateKey.generate()
        private, public = _text(signer.private_bytes_raw()), _text(signer.public_key().public_bytes_raw())
        encryption: dict[str, Any] = {"kty": "oct", "alg": "aes256gcm", "k": _text(os.urandom(32)), "kid": "e"}
        # The standard's names of the two halves and the library's own, of which it wants one here and the other there.
        signing = {"kty": "okp", "alg": "ed25519", "crv": "Ed25519", "kid": "s", "d": private, "x": public}
        signing |= {"priv": private, "pub": public}
        package.register_tmp_key_provider(keys=[encryption, signing])
        how = {"enc_key": encryption, "sign_key": signing}
        self._library.save_file(model.torch_tensors(), path, config=how)

    def load(self) -> _Run:
        """Load into memory."""
        return lambda: self._library.load_file(self._path)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
