"""Opening from S3: in direct mode presigned ranges from a real server, decrypted and verified; and streamed.

It is compared where it reads into memory that is there, as the GETs do. What memory costs that nobody has touched yet,
which a virtual machine may have to get from its host, the second line says.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from custody.app.demo.places import S3
from custody.segments.buffers import huge_buffer
from ops.bench.deployment import Deployment
from ops.bench.gets import Gets
from ops.bench.model import Model
from ops.bench.opening import Loader
from ops.bench.rows import Contender, Part, Row, Target, beside, measure, rate

__all__ = ["rows"]

_GETS: Final = Target(0.85, 0.95)
_VERSION: Final = "demo/bench-s3@1"


def rows(deployment: Deployment, model: Model, work: Path, runs: int) -> Sequence[Row]:
    """Start the broker over a server of its own, seal the model there, and open it; the plain GETs read what it reads.

    The target counts against the fastest client of the run.
    """
    place = S3(work / "s3")
    place.path.mkdir(parents=True)
    deployment.serve(place, "presigned")
    deployment.seal(model.path, _VERSION)
    gets = Gets.largest(place)
    memory = huge_buffer(gets.size)
    gets.sockets(memory)  # what the server reads from the disk is in the cache for all of them

    def obstore() -> Contender:
        return Contender("plain GETs, obstore", gets.obstore(), size=model.size, target=_GETS)

    with deployment.job() as job:
        loader, streamed = (Loader(deployment, job, model, mode) for mode in ("direct", "stream"))
        contenders = [
            loader.reader("custody, direct", memory[: model.size]),
            loader.contender("custody, into fresh memory"),
            streamed.reader("custody, streamed", memory[: model.size], processes=[deployment.broker]),
            Contender("plain GETs, sockets", partial(gets.sockets, memory), size=model.size, target=_GETS),
            Contender("plain GETs, http.client", partial(gets.standard_library, memory), size=model.size, target=_GETS),
            beside("plain GETs, obstore", obstore),
            Contender("only GET, decrypt, hash", partial(gets.sockets_and_steps, memory), size=model.size),
        ]
        found = measure(Part("open, S3", "GB/s", rate, contenders, ours=3), runs)
    fastest = max((row for row in found if row.target), key=lambda row: row.median)
    return [row if row.ours or row == fastest else dataclasses.replace(row, target=None) for row in found]
