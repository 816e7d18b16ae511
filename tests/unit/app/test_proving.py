"""Processes that verify ahead of a fold: they say what is true, and when they are gone nothing is lost but time."""

import os
from collections.abc import Sequence
from typing import NoReturn

import pytest

from custody.app import proving as module
from custody.app.proving import proving
from custody.rules.ahead import Claims, Proof, claims_of, prove
from tests.unit.audit.busy import busy


@pytest.fixture
def pages() -> Sequence[Claims]:
    world = busy()
    entries = world.log.entries
    return [
        claims_of(entries[start : start + 10], world.log.envelopes, world.root) for start in range(0, len(entries), 10)
    ]


def gone(_: Claims) -> NoReturn:
    """In a process of the pool: the kernel wanted the memory."""
    os._exit(9)


def test_processes_prove_what_is_true_in_order(pages: Sequence[Claims], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ALONE", 1)
    found = list(proving(iter(pages), processes=1))
    expected: list[Sequence[Proof]] = [prove(page) for page in pages]
    assert len(found) == len(expected)
    assert found[0] == ()
    assert any(found)
    assert all(not proofs or proofs == true for proofs, true in zip(found, expected, strict=True))


def test_processes_that_are_gone_prove_nothing(pages: Sequence[Claims], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ALONE", 0)
    monkeypatch.setattr(module, "prove", gone)
    assert list(proving(iter(pages), processes=1)) == [()] * len(pages)


@pytest.mark.parametrize("processes", [0, 1])
def test_a_small_journal_and_one_core_do_without(pages: Sequence[Claims], processes: int) -> None:
    few = pages if processes == 0 else pages[: module._ALONE]
    assert list(proving(iter(few), processes=processes)) == [()] * len(few)
