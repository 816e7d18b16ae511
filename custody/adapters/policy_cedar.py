"""The policy, in Cedar: typed, default deny, a forbid overrides every permit (docs.cedarpolicy.com).

A bundle is one ``schema.cedarschema`` and any number of ``*.cedar``. The schema is always given: without one Cedar
checks no types, and a misspelt attribute in a forbid would silently forbid nothing. A bundle that does not validate is
refused at load; an answer counts only when it is Allow *and* came without errors.
"""

from collections.abc import Mapping
from typing import Final

import cedarpy

from custody.errors import ConfigError, DeniedError
from custody.ports import Facts
from custody.rules.bundle import bundle_digest

__all__ = ["CedarPolicy"]

_SCHEMA: Final = "schema.cedarschema"


class CedarPolicy:
    """A loaded bundle. Asking takes tens of microseconds; safe from several threads."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._digest = bundle_digest(files)
        policies = "\n".join(_text(name, files[name]) for name in sorted(files) if name.endswith(".cedar"))
        if _SCHEMA not in files or not policies.strip():
            raise ConfigError(f"policy bundle: it needs {_SCHEMA} and at least one .cedar file")
        schema = _text(_SCHEMA, files[_SCHEMA])
        try:
            self._schema = cedarpy.Schema.from_str(schema)
            self._policies = cedarpy.PolicySet.from_str(policies)
            result = cedarpy.validate_policies(policies, schema)
        except ValueError as error:
            raise ConfigError(f"policy bundle: {_line(error)}") from None
        if not result.validation_passed:
            raise ConfigError(f"policy bundle: {_line(result.errors[0] if result.errors else 'it does not validate')}")
        self._entities = cedarpy.Entities.from_json_str("[]")

    @property
    def digest(self) -> str:
        """The digest of the bundle, which the trust root names."""
        return self._digest

    def check(self, action: str, principal: str, resource: str, facts: Facts) -> None:
        """Ask whether ``principal`` (a person's id or a SPIFFE ID) may do ``action`` to the version ``resource``.

        Raises ``DeniedError`` naming the forbidding policies by their @id; where none permits, it says so.
        """
        kind = "Workload" if principal.startswith("spiffe://") else "Person"
        question = {
            "principal": f'{kind}::"{principal}"',
            "action": f'Action::"{action}"',
            "resource": f'Version::"{resource}"',
            "context": dict(facts),
        }
        answer = cedarpy.is_authorized(question, self._policies, self._entities, schema=self._schema)
        if answer.decision is cedarpy.Decision.Allow and not answer.diagnostics.errors:
            return
        names = answer.diagnostics.id_annotations_by_reason
        reasons = sorted(str(names.get(reason) or reason) for reason in answer.diagnostics.reasons)
        why = f"forbidden by {', '.join(reasons)}" if reasons else "no rule permits it"
        if answer.diagnostics.errors:
            why = "the question does not fit the policy's schema"
        raise DeniedError(f"policy: {action} of {resource}: {why}", hint="the policy is in the broker's policy folder")


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"policy bundle: {name} is not UTF-8") from None


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300]
