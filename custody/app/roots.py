"""Trust roots from files, verified from the pinned genesis on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from custody.adapters import small_files
from custody.adapters.home import Home
from custody.documents.dsse import MAX_ENVELOPE, Envelope
from custody.documents.root import Root
from custody.errors import ConfigError, FormatError, IntegrityError, NotFoundError
from custody.rules.roots import follow_roots

__all__ = ["TrustedRoots", "load_roots", "read_envelope", "read_roots"]


@dataclass(frozen=True, slots=True)
class TrustedRoots:
    """A verified chain of roots. ``newest`` is the newest *given*: nobody offline knows whether a newer one exists."""

    roots: tuple[Root, ...]
    envelopes: tuple[Envelope, ...]

    @property
    def newest(self) -> Root:
        """The last root of the chain."""
        return self.roots[-1]


def read_envelope(path: Path) -> Envelope:
    """Read an envelope from a file, with or without a line feed at its end. ``FormatError`` names the file."""
    data = small_files.read(path, MAX_ENVELOPE)
    try:
        return Envelope.parse(data.removesuffix(b"\n"))
    except FormatError as error:
        raise FormatError(f"{path}: {error.message}", hint=error.hint) from None


def read_roots(paths: Sequence[Path]) -> list[Envelope]:
    """Read trust roots from files, and from directories that hold ``root.json``, ``root-<epoch>.json``; by epoch.

    The same root twice counts once. They are not verified by this.
    """
    found: dict[int, Envelope] = {}
    for path in _files(paths):
        envelope = read_envelope(path)
        try:
            epoch = int(envelope.document(Root).epoch)
        except FormatError as error:
            raise FormatError(f"{path}: {error.message}", hint=error.hint) from None
        other = found.setdefault(epoch, envelope)
        if other.digest != envelope.digest:
            raise IntegrityError(
                f"{path}: a second, different trust root of epoch {epoch}",
                hint="the history of trust is forked: stop, and compare digests with the other custodians",
            )
    return [found[epoch] for epoch in sorted(found)]


def load_roots(home: Home, paths: Sequence[Path], genesis: str | None) -> TrustedRoots:
    """Verify the roots at ``paths`` (or those kept in the home) from the pinned genesis, and remember the newest.

    ``genesis`` is a digest given out of band for this command; without it the one pinned in the home counts. A root
    that the home has kept is used too, so that giving only an old one does not hide a newer. ``IntegrityError`` for a
    chain that does not verify and for a rollback; ``ConfigError`` where no genesis is known.
    """
    profile = home.profile()
    pinned = profile.genesis if profile else None
    if genesis is None and pinned is None:
        raise ConfigError(
            "no genesis trust root is pinned, so no trust root can be believed",
            hint="pin it: custody root verify keys/root.json --pin    (or give --genesis DIGEST)",
        )
    if genesis is not None and pinned is not None and genesis != pinned:
        raise IntegrityError(
            f"--genesis {genesis[:16]}… is not the genesis pinned in {home.profile_path}",
            hint="each deployment has a home of its own: choose another with --home",
        )
    ours = profile is not None and pinned is not None
    envelopes = read_roots([*paths, *(home.kept_roots() if ours else ())])
    if not envelopes:
        raise NotFoundError("there is no trust root", hint="give one with --root keys/root.json")
    deployment = profile.deployment if profile else envelopes[0].document(Root).deployment
    roots = follow_roots(envelopes, deployment=deployment, genesis=str(genesis or pinned))
    if ours:
        home.saw_root(int(roots[-1].epoch), envelopes[-1].digest)
        for root, envelope in zip(roots, envelopes, strict=True):
            home.keep_root(int(root.epoch), envelope.encode())
    return TrustedRoots(tuple(roots), tuple(envelopes))


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = [path / "root.json", *path.glob("root-*.json"), *path.glob("roots/*.json")]
            found = [item for item in found if item.is_file()]
            files += found
            if not found:
                raise NotFoundError(f"{path}: there is no root.json in it")
        else:
            files.append(path)
    return files
