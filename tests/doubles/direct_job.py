"""A job's program in direct mode, as a process of its own: opens a lease, reads, closes, and waits in between.

    python direct_job.py DEPLOYMENT GENESIS ADDRESS TLS-FOLDER LEASE

Prints a line when it has come so far (``open``, ``closed``), and goes on when a line comes in.
"""

import sys
from pathlib import Path

from custody.client import Custody, Settings
from custody.wire.tls import TlsFiles


def main(deployment: str, genesis: str, address: str, folder: str, lease: str) -> None:
    place = Path(folder)
    files = TlsFiles(place / "tls.crt", place / "tls.key", place / "ca.pem")
    with Custody(Settings(deployment, genesis, address, "broker-1.custody", files)) as custody:
        session = custody.lease(lease).open()
        size = session.size("weights.bin")
        session.readinto("weights.bin", buffer := bytearray(size))
        buffer[:] = bytes(size)
        _say("open")
        session.close()
        _say("closed")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
