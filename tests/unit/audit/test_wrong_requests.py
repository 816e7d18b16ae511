"""A wrong history for each rule of proto/spec/entries.md: requests and release keys."""

from dataclasses import replace
from typing import Any

import pytest

from custody.documents.release import ReleaseKey
from custody.documents.request import Range, Request
from custody.documents.terms import Terms
from custody.entries.entry import Entry
from custody.values import U64, Time
from tests.doubles.case import Case
from tests.doubles.world import DOMAIN, HOUR, JOB, World
from tests.unit.audit.wrong import (
    AB,
    OTHER,
    Lie,
    Prepare,
    judge,
    opened,
    refile,
    requested,
    sealed,
    stranger,
    unprovoked,
    wrong,
)


def terms(who: str = "broker-1", **changes: Any) -> Lie:
    def lie(world: World, _: Case) -> object:
        case = Case.of(world, "demo/tiny@1")
        case.terms = case.make_terms(who, **changes)
        return case.log_request()

    return lie


def key(**changes: Any) -> Lie:
    def lie(world: World, case: Case) -> object:
        fresh = Case.of(world, "demo/tiny@1")
        if changes.pop("used", False):
            changes["xwing"] = case.key.document(ReleaseKey).xwing
        fresh.key = fresh.make_key(**changes)
        return fresh.log_request()

    return lie


def logged_again(world: World, _: Case) -> object:
    entry = next(item for item in world.log.entries if item.type == "request")
    fields = {name: getattr(entry, name) for name in ("actor", "version", "content", "sharing", "request", "terms")}
    fields |= {"release_key": entry.release_key, "beneficiary": entry.beneficiary}
    return world.append("request", *(world.log.envelopes[item.envelope] for item in entry.documents), **fields)


def signed_by(who: str) -> Lie:
    """The honest terms, under a key of somebody else."""

    def lie(world: World, _: Case) -> object:
        case = Case.of(world, "demo/tiny@1")
        case.terms = world.sign(case.terms.document(Terms), who)
        return case.log_request()

    return lie


def entry(**changes: Any) -> Lie:
    return lambda world, _: Case.of(world, "demo/tiny@1").log_request(**changes)


def borrowed(world: World, _: Case) -> Entry:
    """A request in the name of one workload, with the certificate of another."""
    other = world.job(f"spiffe://{DOMAIN}/job/other")
    return refile(world, replace(other, spiffe=JOB))


def person_as_workload(world: World, _: Case) -> Entry:
    return refile(world, world.job(f"spiffe://{DOMAIN}/person/frank"), beneficiary=JOB)


def signed_by_bob(world: World, _: Case) -> Entry:
    case = Case.of(world, "demo/tiny@1")
    case.request = world.sign(case.request.document(Request), "bob")
    return case.log_request()


REQUESTS = [
    wrong("another release key than the document", requested, "it names another release key", entry(release_key=AB)),
    wrong("another sharing than the one in force", requested, "it names another sharing", entry(sharing=AB)),
    wrong(
        "another workload than the document's",
        requested,
        "it names another beneficiary",
        entry(beneficiary=f"spiffe://{DOMAIN}/job/other"),
    ),
    wrong(
        "another requester than the document's",
        requested,
        "the actor is not person:frank",
        lambda w, c: entry(actor=w.party("erin"))(w, c),
    ),
    wrong(
        "a release key of another deployment",
        requested,
        "it is of another deployment",
        lambda w, c: c.log_key(c.make_key(deployment=OTHER)),
    ),
    wrong(
        "a release key that follows from something else",
        requested,
        "it does not follow from the entry it names",
        lambda w, c: c.log_key(c.make_key(), parent=w.state.root_entries[0]),
    ),
    wrong("another request than the document", requested, "it names another request", entry(request=AB)),
    wrong("other terms than the document", requested, "it names other terms", entry(terms=AB)),
    wrong("another version than the document's", requested, "it names another version", entry(version="demo/tiny@2")),
    wrong(
        "a kind that this version does not serve",
        requested,
        "requests of kind destroy are not served",
        lambda w, _: refile(w, kind="destroy"),
    ),
    wrong("terms that another broker signed", requested, "not signed with the key of broker", signed_by("broker-2")),
    wrong("the certificate of another workload", requested, "the certificate is not that of", borrowed),
    wrong("the TLS certificate of a person", requested, "is the identity of a person or broker", person_as_workload),
    wrong("a request that somebody else signed", requested, "not signed with a device of frank", signed_by_bob),
    wrong("filed twice", requested, "filed before", logged_again),
    wrong("signed long ago", requested, "behind the broker's clock", lambda w, _: refile(w, created=Time(w.now - 301))),
    wrong(
        "signed ahead of time",
        requested,
        "ahead of the broker's clock",
        lambda w, _: refile(w, created=Time(w.now + 301)),
    ),
    wrong("other content", requested, "no version demo/tiny@1 with that content", lambda w, _: refile(w, content=AB)),
    wrong(
        "files that are not there",
        requested,
        "has files 0 to 2",
        lambda w, _: refile(w, files=(Range(first=U64(0), last=U64(3)),)),
    ),
    wrong(
        "more bytes than there are", requested, "sessions of these files are", lambda w, _: refile(w, bytes=U64(17_101))
    ),
    wrong(
        "a start window that is over",
        requested,
        "the start window is over",
        lambda w, _: refile(w, not_before=Time(w.now - 60), open_before=Time(w.now)),
    ),
    wrong(
        "another trust domain",
        requested,
        "not in the trust domain",
        lambda w, _: refile(w, beneficiary="spiffe://example.net/job/serve"),
    ),
    wrong(
        "a workload without an owner",
        requested,
        "has no owner",
        lambda w, _: refile(w, beneficiary=f"spiffe://{DOMAIN}/nobody/serve"),
    ),
    wrong(
        "the identity of a person",
        requested,
        "the identity of a person or broker",
        lambda w, _: refile(w, beneficiary=f"spiffe://{DOMAIN}/person/frank"),
    ),
    wrong(
        "a workload that asks for another",
        requested,
        "a workload asks only for itself",
        lambda w, _: refile(w, w.job(f"spiffe://{DOMAIN}/job/other"), beneficiary=JOB),
    ),
    wrong("a certificate of a stranger", requested, "does not verify", lambda w, _: refile(w, stranger(w, JOB))),
    wrong("a request of another deployment", requested, "other deployment", lambda w, _: refile(w, deployment=OTHER)),
    wrong("terms of another broker", requested, "not this broker's", terms("broker-2")),
    wrong("terms that a person signed", requested, "not this broker's", terms("alice")),
    wrong(
        "terms for longer",
        requested,
        "terms: not_after is wider",
        lambda w, c: terms(not_after=Time(w.now + 90 * HOUR))(w, c),
    ),
    wrong("terms for more bytes", requested, "terms: bytes is wider", terms(bytes=U64(10_001))),
    wrong(
        "terms for another workload",
        requested,
        "terms: beneficiary is wider",
        terms(beneficiary=f"spiffe://{DOMAIN}/job/other"),
    ),
    wrong("a release key for another request", requested, "the release key is for another", key(request=AB)),
    wrong("a release key of another broker", requested, "the release key is for another", key(who="broker-2")),
    wrong("a release key used before", requested, "this release key was used before", key(used=True)),
    wrong("nobody left who could approve", sealed, "no quorum can approve this", lambda w, _: refile(w, "bob")),
    wrong("a new release key while it is open", opened, "not waiting for shares", lambda w, c: c.log_key(c.make_key())),
    wrong(
        "a new release key of another broker",
        requested,
        "the release key is for another",
        lambda w, c: c.log_key(c.make_key(who="broker-2")),
    ),
    wrong(
        "the old release key again",
        requested,
        "this release key was used before",
        lambda w, c: c.log_key(c.make_key(xwing=c.key.document(ReleaseKey).xwing, created=Time(w.now + 1))),
    ),
]


@pytest.mark.parametrize(("prepare", "text", "lie"), [*REQUESTS])
def test_a_wrong_request_is_found(prepare: Prepare, text: str, lie: Lie) -> None:
    judge(prepare, text, lie)


def test_no_rule_for_these_was_forgotten() -> None:
    assert unprovoked(REQUESTS, "requesting", "facts", "signers") == {
        r"the\ request\ is\ for\ deployment\ .*",  # the rule before it refuses all documents of another deployment
        r"there\ is\ no\ request\ .*…",  # test_wrong_sessions.py
        r"there\ is\ no\ lease\ .*…",  # the same
        r"entry\ .*:\ document\ .*\ is\ missing",  # the audit reads documents itself: test_verify_attacks.py
        r"entry\ .*:\ .*\ is\ not\ the\ document\ the\ entry\ names",  # the same
    }
