"""The policy says no unless it clearly says yes."""

from importlib import resources

import pytest

from custody.adapters.policy_cedar import CedarPolicy
from custody.errors import ConfigError, DeniedError, FormatError
from custody.ports import Facts

JOB = "spiffe://example.org/job/serving"
VERSION = "frontier/llm@2026-11"
ASKED: Facts = {
    "beneficiary": JOB,
    "purpose": "serving",
    "mode": "stream",
    "duration": 3600,
    "bytes": 10,
    "sessions": 1,
    "hour": 12,
    "approvers": [],
}


def default() -> dict[str, bytes]:
    folder = resources.files("custody.app").joinpath("policy_default")
    return {name: folder.joinpath(name).read_bytes() for name in ("policy.cedar", "schema.cedarschema")}


def with_rule(rule: str) -> CedarPolicy:
    return CedarPolicy(default() | {"more.cedar": rule.encode()})


def test_the_default_permits_ordinary_work() -> None:
    policy = CedarPolicy(default())
    policy.check("request", "alice", VERSION, ASKED)
    policy.check("grant", JOB, VERSION, {**ASKED, "approvers": ["alice", "bob"]})
    policy.check("session", JOB, VERSION, {"purpose": "serving", "mode": "stream", "bytes": 10})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"mode": "direct"}, "direct-mode-is-off"),
        ({"duration": 86401}, "no rule permits it"),
        ({"purpose": "curiosity"}, "no rule permits it"),
    ],
)
def test_the_default_denies_and_names_the_rule(change: Facts, why: str) -> None:
    with pytest.raises(DeniedError, match=why):
        CedarPolicy(default()).check("request", "alice", VERSION, {**ASKED, **change})


def test_a_forbid_overrides_every_permit_and_sees_approvers_hour_and_version() -> None:
    policy = with_rule(
        '@id("no-night") forbid (principal, action == Action::"grant", resource) when { context.hour >= 22 };'
        '@id("needs-dave") forbid (principal, action == Action::"grant", resource == Version::"frontier/llm@2026-11")'
        ' unless { context.approvers.contains("dave") };'
    )
    policy.check("grant", JOB, VERSION, {**ASKED, "approvers": ["dave"]})
    with pytest.raises(DeniedError, match="needs-dave"):
        policy.check("grant", JOB, VERSION, {**ASKED, "approvers": ["alice"]})
    with pytest.raises(DeniedError, match="no-night"):
        policy.check("grant", JOB, VERSION, {**ASKED, "approvers": ["dave"], "hour": 23})


def test_facts_that_do_not_fit_the_schema_are_a_denial() -> None:
    policy = CedarPolicy(default())
    without = {name: value for name, value in ASKED.items() if name != "mode"}
    with pytest.raises(DeniedError, match=r"schema|permits"):
        policy.check("request", "alice", VERSION, without)
    with pytest.raises(DeniedError):
        policy.check("burn", "alice", VERSION, ASKED)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"policy.cedar": b"permit (principal, action, resource);"},
        {"schema.cedarschema": b"entity Person;"},
        default() | {"more.cedar": b"permit (principal, action, resource) when { context.purpos == 1 };"},
        default() | {"more.cedar": b"permit ("},
        default() | {"more.cedar": b"\xff"},
        default() | {"schema.cedarschema": b"nonsense"},
    ],
)
def test_a_bundle_that_does_not_validate_is_refused_at_load(files: dict[str, bytes]) -> None:
    with pytest.raises((ConfigError, FormatError), match="policy bundle"):
        CedarPolicy(files)


def test_its_digest_is_of_the_whole_bundle() -> None:
    assert CedarPolicy(default()).digest != with_rule("forbid (principal, action, resource);").digest


def test_a_quote_in_a_name_cannot_become_policy_syntax() -> None:
    with pytest.raises(DeniedError):
        CedarPolicy(default()).check("request", 'alice" || true || "', VERSION, ASKED)
