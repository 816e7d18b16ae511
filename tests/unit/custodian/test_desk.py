"""What a desk returns of what a broker shows, and how things are found."""

from dataclasses import replace

import pytest

from custody.custodian.fold import RequestView
from custody.errors import DeniedError, FormatError, IntegrityError, NotFoundError, UnavailableError
from tests.doubles.case import Case
from tests.doubles.world import World
from tests.unit.custodian.counter import Counter, Memory, raising

NAME = "demo/tiny@1"


class Scene:
    def __init__(self) -> None:
        self.world = World()
        self.world.seal(NAME)
        self.world.seal("demo/other@2")
        self.cases: list[Case] = [self.world.file(NAME, reason=f"number {i}") for i in range(3)]
        self.counter = Counter(self.world, "alice", *self.cases)
        self.desk = self.counter.desk()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def _views(scene: Scene, *, closed: bool = False) -> list[RequestView]:
    return [item for item in scene.desk.requests(closed=closed) if isinstance(item, RequestView)]


def test_all_versions_and_requests_are_listed_page_by_page(scene: Scene) -> None:
    assert [view.version.content.version for view in scene.desk.versions()] == ["demo/other@2", NAME]
    assert [view.found.digest for view in _views(scene)] == [case.digest for case in scene.cases]


def test_closed_requests_are_listed_only_when_asked_for(scene: Scene) -> None:
    case = scene.cases[0]
    case.log_stop(case.stop("withdraw", "frank"), "frank")
    case.close("withdrawn")
    assert [view.found.digest for view in _views(scene)] == [case.digest for case in scene.cases[1:]]
    assert len(_views(scene, closed=True)) == 3


def test_a_request_that_does_not_verify_is_named_and_hides_no_other(scene: Scene) -> None:
    honest = scene.counter.get_request
    bad = scene.cases[1].digest

    def lying(request: str, *, seen: int = 0, wait_seconds: int = 0) -> object:
        reply = honest(request)
        return replace(reply, receipts=reply.receipts[1:]) if request == bad else reply

    scene.counter.lie("get_request", lying)
    found = list(scene.desk.requests())
    assert [item[0] for item in found if isinstance(item, tuple)] == [bad]
    assert len(_views(scene)) == 2


def test_a_request_is_found_by_its_digest_its_lease_or_a_prefix(scene: Scene) -> None:
    case = scene.cases[2]
    for reference in (case.digest, case.digest[:8], case.lease, case.lease[:12]):
        assert scene.desk.find(reference).found.digest == case.digest


@pytest.mark.parametrize("reference", ["", "abc", "1234567", "x" * 8, "AB" * 8, "../../etc", "0" * 65, "\x1b[2J0000"])
def test_what_is_no_digest_is_refused(scene: Scene, reference: str) -> None:
    with pytest.raises(FormatError, match="is not a request or lease"):
        scene.desk.find(reference)


def test_a_request_that_is_not_there_is_not_found(scene: Scene) -> None:
    with pytest.raises(NotFoundError, match="concerns you"):
        scene.desk.find("0" * 8)
    with pytest.raises(NotFoundError, match="concerns you"):
        scene.desk.find("0" * 64)


def test_another_request_in_the_place_of_the_one_asked_for_is_refused(scene: Scene) -> None:
    asked, other = (scene.counter.get_request(case.digest) for case in scene.cases[:2])
    for lie in (other, replace(other, request=asked.request)):
        scene.counter.lie("get_request", lambda _, lie=lie: lie)
        with pytest.raises(IntegrityError, match="another request"):
            scene.desk.request(asked.request)


def test_a_prefix_that_fits_several_is_refused(scene: Scene) -> None:
    digests = [case.digest for case in scene.cases]
    views = [replace(scene.counter.get_request(digest), request=f"aaaaaaaa{i}") for i, digest in enumerate(digests)]
    scene.counter.lie("list_requests", lambda **_: (views, ""))
    with pytest.raises(DeniedError, match="fits 3 requests"):
        scene.desk.find("aaaaaaaa")


def test_the_last_lease_is_the_newest_granted_before_of_the_same_beneficiary(scene: Scene) -> None:
    first, second, third = scene.cases
    view = scene.desk.request(third.digest)
    assert scene.desk.last_lease(view) is None
    for case in (first, second):
        case.decide("alice")
        case.decide("bob")
        case.grant()
    found = scene.desk.last_lease(view)
    assert found is not None
    assert found.found.digest == second.digest


def test_a_version_that_is_not_there_is_not_found(scene: Scene) -> None:
    with pytest.raises(NotFoundError, match="there is no version"):
        scene.desk.version("demo/none@1")


def test_a_view_without_its_entry_is_refused(scene: Scene) -> None:
    honest = scene.counter.get_request
    scene.counter.lie("get_request", lambda request, **_: replace(honest(request), receipts=[]))
    with pytest.raises(IntegrityError, match="does not show the entry"):
        scene.desk.request(scene.cases[0].digest)


def test_a_document_of_the_log_that_is_another_one_is_refused(scene: Scene) -> None:
    case = scene.cases[0]
    case.log_key(case.make_key())
    other = scene.cases[1].request
    scene.counter.lie("get_log_object", lambda _: other.encode())
    with pytest.raises(IntegrityError, match="is another one"):
        scene.desk.request(case.digest)


def test_without_the_logs_tiles_freshness_is_unverified_and_says_why(scene: Scene) -> None:
    assert scene.desk.freshness().why == ""
    scene.counter.lie("get_log_object", raising(UnavailableError("the log store is down")))
    fresh = scene.desk.freshness()
    assert not fresh.proven
    assert fresh.why == "the log store is down"


def test_what_was_seen_is_remembered(scene: Scene) -> None:
    memory = Memory()
    desk = scene.counter.desk(memory)
    before = memory.now.size
    desk.greet("alice", scene.world.devices["alice"])
    assert memory.now.size == before + 1
    assert memory.roots[-1] == scene.world.state.root_digest
