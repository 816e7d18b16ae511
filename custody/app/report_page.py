"""Puts the report together: an audit, what the page holds, and the page."""

import time
from pathlib import Path

from custody.adapters import small_files
from custody.app.auditing import Audit, audit, pinned_genesis
from custody.audit.page.build import page
from custody.audit.page.data import MOST, page_data
from custody.audit.report import Report
from custody.audit.source import Source

__all__ = ["write_page"]


def write_page(
    source: Source, how: Audit, file: Path, *, most: int = MOST, replace: bool = False
) -> tuple[Report, int]:
    """Verify a log and write the page that shows it; return the audit's report and the size of the page in bytes.

    Raises ``StoreError`` where the file exists and is not to be replaced, and what ``audit`` raises.
    """
    report = audit(source, how)
    data = page_data(source, report, genesis=pinned_genesis(how), made=int(time.time()), most=most)
    html = page(data).encode()
    write = small_files.replace if replace else small_files.create
    write(file, html, 0o600)
    return report, len(html)
