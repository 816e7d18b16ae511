"""A witness: a small server that cosigns the checkpoints of the logs it follows, if they only ever grow.

It knows nothing of what a log holds and can be run by another team. A witness that the operator of the log runs proves
nothing against that operator.

::

    serve     configuration, key file, the process
    app       HTTP: routes, limits, metrics
    cosigner  one request: check, persist, sign
    state     the last checkpoint of each log, on disk
"""

__all__: list[str] = []
