"""What users would take instead, on the same bytes. Each is ``None`` where it is not installed."""

import importlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Peers"]

_ROWS = 16

_Run = Callable[[], object] | None


class Peers:
    """The peers, with files made for them: opened from ``work``, saved to ``tmpfs``."""

    def __init__(self, data: memoryview, work: Path, tmpfs: Path) -> None:
        self.safetensors_load: _Run = None
        self.tensorizer_save: _Run = None
        self.tensorizer_load: _Run = None
        self.tensorizer_load_plain: _Run = None
        self.age_encrypt: _Run = None
        if _has("pyrage"):
            self._age(bytes(data))
        if _has("torch"):
            torch = importlib.import_module("torch")
            torch.set_num_threads(2)
            part = len(data) // _ROWS // 2 * 2
            whole = torch.frombuffer(bytearray(data), dtype=torch.bfloat16)
            tensors = {f"layers.{i}.w": whole[i * part // 2 : (i + 1) * part // 2].clone() for i in range(_ROWS)}
            if _has("safetensors"):
                self._safetensors(tensors, work / "peer.safetensors")
            if _has("tensorizer"):
                self._tensorizer(tensors, work, tmpfs)

    def _age(self, data: bytes) -> None:
        pyrage = importlib.import_module("pyrage")
        recipient = pyrage.x25519.Identity.generate().to_public()
        self.age_encrypt = lambda: pyrage.encrypt(data, [recipient])

    def _safetensors(self, tensors: dict[str, Any], path: Path) -> None:
        module = importlib.import_module("safetensors.torch")
        module.save_file(tensors, path)
        self.safetensors_load = lambda: {name: tensor.clone() for name, tensor in module.load_file(path).items()}

    def _tensorizer(self, tensors: dict[str, Any], work: Path, tmpfs: Path) -> None:
        tensorizer = importlib.import_module("tensorizer")
        key = os.urandom(32)

        def save(path: Path, encryption: object) -> None:
            serializer = tensorizer.TensorSerializer(str(path), encryption=encryption)
            serializer.write_state_dict(tensors)
            serializer.close()

        def load(path: Path, encryption: object) -> object:
            return dict(tensorizer.TensorDeserializer(str(path), device="cpu", encryption=encryption, num_readers=2))

        locked, plain = work / "peer.locked", work / "peer.tensors"
        save(locked, tensorizer.EncryptionParams(key=key))
        save(plain, None)
        decryption = tensorizer.DecryptionParams.from_key(key)
        self.tensorizer_save = lambda: save(tmpfs / "peer.locked", tensorizer.EncryptionParams(key=key))
        self.tensorizer_load = lambda: load(locked, decryption)
        self.tensorizer_load_plain = lambda: load(plain, None)


def _has(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
