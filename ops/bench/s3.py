"""Opening from S3 in direct mode: presigned ranges from a real server, decrypted and verified into fresh memory."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from custody.app.demo.places import S3
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
    gets.sockets()  # what the server reads from the disk is in the cache for all of them

    def obstore() -> Contender:
        return Contender("plain GETs, obstore", gets.obstore(), size=model.size, target=_GETS)

    with deployment.job() as job:
        contenders = [
            Loader(deployment, job, model, "direct").contender("custody, direct"),
            Contender("plain GETs, sockets", gets.sockets, size=model.size, target=_GETS),
            Contender("plain GETs, http.client", gets.standard_library, size=model.size, target=_GETS),
            beside("plain GETs, obstore", obstore),
        ]
        found = measure(Part("open, S3", "GB/s", rate, contenders), runs)
    fastest = max(found[1:], key=lambda row: row.median)
    return [row if row in (found[0], fastest) else dataclasses.replace(row, target=None) for row in found]
