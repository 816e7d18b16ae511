"""The requester's and the job's side of the wire: request, wait, open, read, verify.

A program needs little of it::

    with Custody.connect("/etc/custody") as custody:
        request = custody.request("demo/minilm@1.0", purpose="serving", reason="roll-out", duration="2h")
        lease = request.wait()
        with lease.open() as session:
            session.readinto("model.safetensors", buffer)

What the broker serves is believed only after it was verified here: the session's receipt leads from the pinned genesis
to a cosigned checkpoint, and every segment is the one the sealer listed before a byte of it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from custody.adapters.surroundings import Surroundings
    from custody.client.custody import Custody
    from custody.client.identity import DeviceIdentity, Identity, WorkloadIdentity
    from custody.client.leases import Lease
    from custody.client.requests import PendingRequest
    from custody.client.session import FileInfo, Session
    from custody.client.settings import Memory, Settings

__all__ = [
    "Custody",
    "DeviceIdentity",
    "FileInfo",
    "Identity",
    "Lease",
    "Memory",
    "PendingRequest",
    "Session",
    "Settings",
    "Surroundings",
    "WorkloadIdentity",
]

_HOMES = {
    "Custody": "custody.client.custody",
    "DeviceIdentity": "custody.client.identity",
    "FileInfo": "custody.client.session",
    "Identity": "custody.client.identity",
    "Lease": "custody.client.leases",
    "Memory": "custody.client.settings",
    "PendingRequest": "custody.client.requests",
    "Session": "custody.client.session",
    "Settings": "custody.client.settings",
    "Surroundings": "custody.adapters.surroundings",
    "WorkloadIdentity": "custody.client.identity",
}

if not TYPE_CHECKING:  # a checker that saw this would take any name for one of ours

    def __getattr__(name: str) -> object:
        """Import a name when it is first used (PEP 562): a tool that takes one file from this room starts without gRPC,
        sessions and tensors.
        """
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)
