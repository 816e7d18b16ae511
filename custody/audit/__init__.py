"""The auditor: verifies a whole log and its documents offline, trusting nobody.

::

    verify            one pass over a log: what is read, in which order, what is believed
        ├── checkpoints   what the published checkpoints claim, and the policies that judge them
        ├── tree          every tile made again from the entries
        ├── examine       bundle by bundle, what needs no knowledge of what came before; on all cores
        │   └── documents     what entries name: bytes, digests, signatures
        ├── judge         every entry under the rules, its documents, its certificates
        └── saved         what an earlier run saw: no way back, no other branch
    report            findings and remarks
    source            where the bytes come from
    kinds             which documents entries name
    reading           entries under a checkpoint that was verified
    view, summary     one entry at a time, for people
    timeline          entries put together by request
        ├── questions     who, what and when, as data
        └── difference    what was added, in words
    patterns          what is worth waking up for
    page              the report that verifies itself in a browser
"""
