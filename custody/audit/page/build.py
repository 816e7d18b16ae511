"""One HTML file from the template, the style, the modules and the data.

The page may load nothing and run only what is here: its policy (Content-Security-Policy) names the hashes of the one
style and the one program. The data is JSON in an element that does not run, with every ``<`` written as an escape, so
that no field can end it. Modules become one program by leaving out ``import`` and ``export``: no name occurs twice.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Final

__all__ = ["MODULES", "page", "program"]

MODULES: Final = (
    *("bytes", "checks", "note", "merkle", "documents", "verify"),
    *("words", "story", "dom", "tables", "timeline", "main"),
)
"""In the order in which they stand in the page: each uses only those before it."""

_IMPORT: Final = re.compile(r"^import [^;]*;\n", re.MULTILINE)
_EXPORT: Final = re.compile(r"^export ", re.MULTILINE)
_ESCAPES: Final = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


def program(modules: Sequence[str] = MODULES) -> str:
    """Return the one program that modules make."""
    parts = [_EXPORT.sub("", _IMPORT.sub("", _file(f"{name}.mjs"))).strip() for name in modules]
    return '"use strict";\n{\n' + "\n\n".join(parts) + "\n}\n"


def page(data: Mapping[str, Any]) -> str:
    """Return the HTML of a page that holds ``data`` (``custody.audit.page.data``)."""
    script, style = program(), _file("report.css")
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )
    text = json.dumps(data, sort_keys=True, separators=(",", ":")).translate(_ESCAPES)
    filled = {"policy": policy, "style": style, "data": text, "script": script}
    return re.sub(r"\{\{([a-z]+)\}\}", lambda match: filled[match[1]], _file("report.html"))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
