"""Bytes in, bytes out: the constructions of the design, one file each, knowing nothing of requests, leases or logs.

::

    encoding    lp, u8, u64; strict base64 and hex
    secret      memory for secrets: locked, left out of dumps, wiped
    sodium      the only file that touches the private module of PyNaCl
    hkdf        key derivation from buffer to buffer
    schedule    from a version's secret to its file keys
    sharing     the secret split over groups of people, and put together again
    floe        random-access encryption of a file
    digests     the keyed digest of each segment
    hpke        wrapping for one recipient, X-Wing
    keys        signing keys, key ids, signatures of certificates
    keyfile     a custodian's key behind a passphrase
    serverkey   a server's key in a file
    svid        certificates of workloads
"""

__all__: list[str] = []
