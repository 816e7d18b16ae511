"""The files of a new deployment.

::

    DIR/ca/       ca.key ca.crt                          the CA: belongs on another host
    DIR/broker/   broker.key row.key log.key             secrets of the broker; its configuration comes later
                  policy/policy.cedar, schema.cedarschema
    DIR/witness/  witness.key                            the first witness: proves something if others run it
    DIR/keys/     ca.pem log.vkey witness.vkey witness.policy     public
    DIR/ceremony.toml                                    to be filled in, for ``custody root create``

Every secret is a file of mode 0600 in a directory of mode 0700. Nothing that exists is overwritten.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from custody.adapters import small_files
from custody.app.arguments import checked
from custody.app.ca import create_authority
from custody.crypto.encoding import b64encode
from custody.crypto.secret import RandomInto, SecretBytes
from custody.crypto.serverkey import ServerKey
from custody.errors import ConfigError, ConflictError, NotFoundError
from custody.ports import Clock, Rng
from custody.rules.bundle import bundle_digest
from custody.tlog.note import COSIGNATURE, ED25519, NoteSigner, VKey
from custody.tlog.policy import Group, LogKey, Policy, Witness
from custody.values import Deployment, SpiffeId

__all__ = ["BROKER", "WITNESS", "Created", "create_deployment", "read_bundle", "write_signer"]

BROKER: Final = "broker-1"
"""Id of the first broker in the trust root."""
WITNESS: Final = "witness-1"
"""Name of the first witness in the witness policy."""

_ROW_KEY_SIZE: Final = 32
_MAX_POLICY_FILE: Final = 1 << 20
_DEFAULT_POLICY: Final = ("policy.cedar", "schema.cedarschema")


@dataclass(frozen=True, slots=True)
class Created:
    """What was made: public values only."""

    deployment: str
    trust_domain: str
    directory: Path
    ca_directory: Path
    broker_key: bytes
    log: VKey
    witness: VKey
    policy_digest: str


def create_deployment(
    directory: Path,
    deployment: str,
    *,
    trust_domain: str,
    ca_directory: Path | None,
    rng: Rng,
    random_into: RandomInto,
    clock: Clock,
    finish: Callable[[Created], None] | None = None,
) -> Created:
    """Make all keys and files of a deployment in ``directory``, which must be empty or not exist.

    ``finish`` is called at the end with what was made: it may write more files (the broker's configuration). Raises
    ``FormatError`` for names that are none, ``ConflictError`` where something is in the way.
    """
    checked(Deployment, deployment, "deployment id", "write one such as custody.example.org/prod")
    checked(SpiffeId, f"spiffe://{trust_domain}/broker", "trust domain", "give --trust-domain example.org")
    log = NoteSigner.generate(deployment, ED25519, rng)
    witness = NoteSigner.generate(f"{deployment}/{WITNESS}", COSIGNATURE, rng)
    ca = ca_directory or directory / "ca"
    with small_files.explained(directory):
        if directory.exists() and any(directory.iterdir()):
            raise ConflictError(f"{directory}: not empty", hint="choose a new directory: nothing is overwritten")
    for path in (directory, directory / "broker", directory / "witness"):
        small_files.make_directory(path, 0o700)
    for path in (directory / "broker/policy", directory / "keys"):
        small_files.make_directory(path)
    authority = create_authority(ca, trust_domain, clock())
    small_files.create(directory / "keys/ca.pem", small_files.read(ca / "ca.crt", 1 << 16))
    with ServerKey.create(directory / "broker/broker.key", random_into) as broker:
        broker_key = broker.public
    with SecretBytes.random(_ROW_KEY_SIZE, random_into) as row_key:
        small_files.create(directory / "broker/row.key", row_key.view, 0o600)
    write_signer(directory / "broker/log.key", log)
    write_signer(directory / "witness/witness.key", witness)
    small_files.create(directory / "keys/log.vkey", f"{log.vkey.encode()}\n".encode())
    small_files.create(directory / "keys/witness.vkey", f"{witness.vkey.encode()}\n".encode())
    policy = Policy(
        (LogKey(log.vkey),),
        (Witness(WITNESS, witness.vkey),),
        (Group("witnesses", 1, (WITNESS,)),),
        "witnesses",
    )
    small_files.create(directory / "keys/witness.policy", policy.encode())
    for name in _DEFAULT_POLICY:
        data = resources.files("custody.app").joinpath("policy_default", name).read_bytes()
        small_files.create(directory / "broker/policy" / name, data)
    created = Created(
        deployment=deployment,
        trust_domain=authority.trust_domain,
        directory=directory,
        ca_directory=ca,
        broker_key=broker_key,
        log=log.vkey,
        witness=witness.vkey,
        policy_digest=bundle_digest(read_bundle(directory / "broker/policy")),
    )
    small_files.create(directory / "ceremony.toml", _ceremony(created).encode())
    if finish is not None:
        finish(created)
    return created


def read_bundle(directory: Path) -> dict[str, bytes]:
    """Read the files of a policy bundle by name. ``ConfigError`` for anything in it that is not a plain file."""
    with small_files.explained(directory):
        if not directory.exists():
            raise NotFoundError(f"{directory}: there is no such policy bundle")
        names = sorted(path.name for path in directory.iterdir())
    for name in names:
        if (directory / name).is_symlink():
            raise ConfigError(f"{directory / name}: a policy bundle holds plain files only")
    return {name: small_files.read(directory / name, _MAX_POLICY_FILE) for name in names}


def write_signer(path: Path, signer: NoteSigner) -> None:
    """Write a log's or witness's key into a new file, mode 0600."""
    line = bytearray(f"{signer.encode_secret()}\n".encode())
    with SecretBytes.take(line) as secret:
        small_files.create(path, secret.view, 0o600)


def _ceremony(created: Created) -> str:
    """Return the ceremony file to be filled in."""
    domain = created.trust_domain
    return f"""\
# The trust root of {created.deployment}: who may do what.
#
# Fill in persons and rosters, then:
#
#   custody root create --dir . --out root-draft.json        checks this file and writes the draft
#   custody root sign root-draft.json --key alice.key        each person named here, on their own machine
#   custody root verify root-draft.json --pin                prints the digest to read aloud, and pins it
#
# For a later root, change this file and give the root in force: custody root create --previous keys/root.json ...
# Paths are relative to this file.

deployment = "{created.deployment}"
trust_domain = "{domain}"

# One block for each person; keys are made by the persons themselves:
#   custody custodian keygen --person alice --out alice.key
#   custody custodian export alice.key > alice.json

# [[person]]
# id = "alice"
# name = "Alice Example, security"
# keys = ["alice.json"]                                  # one for each device
# identity = "spiffe://{domain}/person/alice"            # of her TLS certificate; this is the default

# A roster guards the versions whose names match. All groups must reach their threshold. The roster named governance
# signs trust roots.

# [[roster]]
# name = "governance"
# guards = ["*"]                                         # a name, a prefix such as "frontier/*", or "*"
# release = "with-decision"                              # or "after-quorum": shares travel only after the quorum
# cool_off = "0s"                                        # a wait such as "2h" in which anyone may veto
# [[roster.group]]
# name = "founders"
# threshold = 2
# members = ["alice", "bob", "carol"]

# [[sealer]]
# sealer = "alice"                                       # a person, or a workload: "spiffe://{domain}/job/training"
# names = ["*"]

# Owners answer for a workload, so they cannot decide on its requests. A workload without an owner gets nothing.

# [[owner]]
# workload = "spiffe://{domain}/job/*"
# persons = ["carol"]

[[broker]]
id = "{BROKER}"
identity = "spiffe://{domain}/broker/{BROKER}"
ed25519 = "{b64encode(created.broker_key)}"              # public half of broker/broker.key

[log]
vkey = "keys/log.vkey"

[trust]
witness_policy = "keys/witness.policy"
spiffe_roots = ["keys/ca.pem"]
policy = "broker/policy"                                 # the root names the digest of these files
"""
