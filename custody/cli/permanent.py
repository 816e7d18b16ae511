"""What people must not miss about direct mode: what a job is given cannot be called back."""

from custody.cli.output import Output
from custody.documents.content import Content
from custody.documents.request import indexes
from custody.documents.show import size_text
from custody.documents.terms import Terms

__all__ = ["kept", "mode_text", "warn_permanent"]


def mode_text(mode: str) -> str:
    """Name a mode in a table."""
    return "DIRECT, PERMANENT" if mode == "direct" else mode


def warn_permanent(output: Output, terms: Terms, content: Content) -> None:
    """Say before anybody decides what direct mode gives away; nothing in stream mode."""
    if terms.mode != "direct":
        return
    files = list(indexes(terms.files))
    size = sum(int(content.files[index].size) for index in files)
    many = "file" if len(files) == 1 else "files"
    output.warn("DIRECT MODE: PERMANENT, NOT REVOCABLE")
    output.warn(f"{terms.beneficiary} is given the keys of {len(files)} {many}, {size_text(size)}, to keep.")
    output.warn("Neither revoking the lease nor its end takes them back: only encrypting the version again does.")


def kept(sessions: int) -> str:
    """Say, when a lease in direct mode was ended, what that did not end."""
    if not sessions:
        return "direct mode: no session had begun, as the broker says, so no key was handed out; none will be"
    many = "session has" if sessions == 1 else "sessions have"
    return (
        f"NOT CALLED BACK: {sessions} direct {many} begun, as the broker says, and keep the keys they were given. "
        "No further session begins; URLs of the store end within 15 minutes. To shut the job out, encrypt the version "
        "again"
    )
