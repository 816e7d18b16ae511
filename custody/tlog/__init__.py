"""The transparency log: notes, checkpoints, Merkle proofs, tiles, witness protocol and policy.

This room knows nothing of what the entries mean. Everything in it is pure: bytes come in, bytes or values go out,
and time, entropy and fetching are arguments. The formats are those of C2SP, restricted as ``proto/spec`` says.

::

    proof, reader, witness_protocol     receipts; a log in untrusted storage; what a witness decides
    policy, tiles                       which signatures are enough; where hashes and entries are stored
    note, merkle                        signatures and their keys; the tree
    checkpoint, cosignature             the text that is signed; how witnesses sign it
    lines                               one spelling for each value
"""

__all__: list[str] = []
