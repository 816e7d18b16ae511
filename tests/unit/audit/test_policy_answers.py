"""What the policy answered is derived again by an auditor who has it; what was not is said."""

from collections.abc import Mapping
from importlib import resources

import pytest

from custody.adapters.policy_cedar import CedarPolicy
from custody.audit.report import Report
from custody.audit.verify import Way
from custody.ports import Policy
from custody.values import U64
from tests.doubles.world import HOUR, World
from tests.unit.audit.published import Published, codes

DAYLIGHT = '@id("daylight") forbid (principal, action == Action::"grant", resource) when { context.hour >= 22 };'
SMALL = '@id("small") forbid (principal, action == Action::"session", resource) when { context.bytes > 500 };'


def policy_with(rule: str = "") -> CedarPolicy:
    folder = resources.files("custody.app").joinpath("policy_default")
    files = {name: folder.joinpath(name).read_bytes() for name in ("policy.cedar", "schema.cedarschema")}
    return CedarPolicy(files | ({"more.cedar": rule.encode()} if rule else {}))


def under(policy: CedarPolicy) -> World:
    world = World()
    world.replace_root(policy=policy.digest)
    return world


def audit(world: World, *policies: CedarPolicy) -> Report:
    known: Mapping[str, Policy] = {policy.digest: policy for policy in policies}
    report, _ = Published.each(world).run(way=Way(policies=known))
    return report


def until(world: World, hour: int, minute: int, second: int = 0) -> None:
    world.tick((hour * HOUR + minute * 60 + second - world.now) % (24 * HOUR))


def test_every_request_grant_and_session_is_asked_again() -> None:
    policy = policy_with()
    world = under(policy)
    world.closed()
    report = audit(world, policy)
    assert report.ok
    assert (dict(report.asked), dict(report.unasked)) == ({policy.digest: 3}, {})
    assert "policy" not in {remark.code for remark in report.remarks}


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"purpose": "mining"}, ["request", "grant", "session-intent"]),
        ({"duration": U64(2 * 24 * HOUR)}, ["request", "grant"]),
    ],
)
def test_what_the_policy_denies_and_the_broker_did_is_found(changes: dict[str, object], wrong: list[str]) -> None:
    policy = policy_with()
    world = under(policy)
    world.opened(**changes).begin()
    report = audit(world, policy)
    assert [world.log.entries[finding.entry or 0].type for finding in report.findings] == wrong
    assert {finding.code for finding in report.findings} == {"policy"}
    assert "no rule permits it" in report.findings[0].text


def test_the_rule_that_denies_a_session_is_named() -> None:
    policy = policy_with(SMALL)
    world = under(policy)
    case = world.opened()
    case.begin(bytes=U64(500))
    case.begin(bytes=U64(501))
    report = audit(world, policy)
    assert codes(report) == [(len(world.log.entries) - 1, "policy")]
    assert "forbidden by small" in report.findings[0].text


def test_the_hour_is_that_of_the_entry_or_a_minute_before_when_the_broker_asked() -> None:
    policy = policy_with(DAYLIGHT)
    world = under(policy)
    world.seal()
    for name, (hour, minute) in {"late": (21, 59), "asked at 21:59": (22, 0), "night": (22, 1)}.items():
        until(world, hour, minute, 30)
        case = world.file(reason=name)
        case.decide("alice")
        case.decide("bob")
        case.grant()
    report = audit(world, policy)
    assert codes(report) == [(len(world.log.entries) - 1, "policy")]
    assert "forbidden by daylight" in report.findings[0].text


def test_each_entry_is_judged_by_the_policy_of_its_own_trust_root() -> None:
    loose, strict = policy_with(), policy_with(DAYLIGHT)
    world = under(loose)
    until(world, 23, 0)
    world.granted()
    world.replace_root(policy=strict.digest)
    world.granted()
    report = audit(world, loose, strict)
    assert codes(report) == [(len(world.log.entries) - 1, "policy")]
    assert dict(report.asked) == {loose.digest: 2, strict.digest: 2}


def test_what_could_not_be_asked_again_is_said_under_its_digest() -> None:
    policy = policy_with()
    world = under(policy)
    world.closed()
    for known in ((), (policy_with(SMALL),)):
        report = audit(world, *known)
        assert report.ok
        assert dict(report.unasked) == {policy.digest: 3}
        assert any(
            remark.code == "policy" and f"3 under policy {policy.digest[:16]}…" in remark.text
            for remark in report.remarks
        )


def test_an_increment_says_what_earlier_runs_did_not_ask() -> None:
    policy = policy_with()
    world = under(policy)
    log = Published.each(world)
    world.granted()
    log.publish()
    _, saved = log.run()
    world.file()
    log.publish()
    report, _ = log.run(saved, way=Way(policies={policy.digest: policy}))
    assert report.begun > 0
    assert (dict(report.asked), dict(report.unasked)) == ({policy.digest: 1}, {policy.digest: 2})
    assert "policy" in {remark.code for remark in report.remarks}
