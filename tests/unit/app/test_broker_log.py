"""What an auditor makes of a broker's lists."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from custody.app.broker_log import BrokerLog
from custody.errors import FormatError, NotFoundError


class Lying:
    """Stands for the link: a broker that answers every question with the same pages."""

    def __init__(self, pages: Callable[[str], Sequence[str]]) -> None:
        self._pages = pages
        self._asked = 0

    def call(self, work: Callable[[Any], Any]) -> Any:
        return work(self)

    def list_log_objects(self, prefix: str, after: str) -> Sequence[str]:
        del prefix
        self._asked += 1
        assert self._asked < 10, "it is asked for ever"
        return self._pages(after)

    def get_log_objects(self, paths: Sequence[str]) -> Sequence[bytes]:
        raise FormatError(f"{len(paths)} are too many")

    def get_log_object(self, path: str) -> bytes:
        raise NotFoundError(path)


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The methods that are called by name are the double's."""
    monkeypatch.setattr("custody.app.broker_log.Calls", Lying)


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param(lambda _after: ["checkpoints/1"], id="the same page for ever"),
        pytest.param(lambda _after: ["checkpoints/2", "checkpoints/1"], id="out of order"),
        pytest.param(lambda _after: ["tile/0/000"], id="other objects"),
    ],
)
def test_a_list_that_leads_nowhere_is_refused(pages: Callable[[str], Sequence[str]]) -> None:
    with BrokerLog(Lying(pages)) as log:  # type: ignore[arg-type]
        names = log.source().names
        assert names is not None
        with pytest.raises(FormatError, match="not in order"):
            list(names("checkpoints/"))


def test_what_is_refused_of_many_is_asked_for_alone() -> None:
    with BrokerLog(Lying(lambda _after: [])) as log:  # type: ignore[arg-type]
        source = log.source()
        assert source.ahead is not None
        source.ahead(["tile/0/000", "tile/0/001"])
        with pytest.raises(NotFoundError):
            source.fetch("tile/0/000")
