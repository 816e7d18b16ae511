"""What a configuration may say of direct access to a store."""

from pathlib import Path
from typing import Any, cast

import pytest

from custody.adapters.store_local import LocalStore
from custody.app.broker_parts import direct_access
from custody.broker.context import Context
from custody.broker.direct import MAX_FILES, check_direct
from custody.errors import ConfigError, DeniedError
from custody.ports import Presigned


class Presigning:
    """A store that presigns; nothing of it is called."""

    def __getattr__(self, name: str) -> object:
        return lambda *_: Presigned("", {}, 0)


def test_a_directory_is_named_as_jobs_see_it_and_urls_need_a_store_that_signs_them(tmp_path: Path) -> None:
    local = LocalStore(tmp_path)
    assert direct_access(None, local) is None
    assert direct_access("/mnt/weights", local) == "/mnt/weights"
    with pytest.raises(ConfigError, match="cannot presign URLs"):
        direct_access("presigned", local)
    signing: Any = Presigning()
    assert direct_access("presigned", signing) is signing
    for wrong in ("mnt/weights", "yes", "../store"):
        with pytest.raises(ConfigError, match="is no way to the store"):
            direct_access(wrong, local)


def test_a_broker_whose_store_is_not_open_to_jobs_hands_out_no_key() -> None:
    class Closed:
        direct = None

    with pytest.raises(DeniedError, match="serves no direct mode"):
        check_direct(cast("Context", Closed()), bytes(1216), 1)
    with pytest.raises(DeniedError, match="8193 files in one session"):
        check_direct(cast("Context", Closed()), bytes(1216), MAX_FILES + 1)
