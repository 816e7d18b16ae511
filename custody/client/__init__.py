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

from custody.client.custody import Custody
from custody.client.identity import DeviceIdentity, Identity, WorkloadIdentity
from custody.client.leases import Lease
from custody.client.requests import PendingRequest
from custody.client.session import FileInfo, Session
from custody.client.settings import Memory, Settings, Surroundings

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
