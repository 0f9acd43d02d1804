"""The doctor tries each protection; some hold on every Linux."""

import pytest

from sandbox.doctor import diagnose

EVERYWHERE = {
    "time, in Python code",
    "time, in code that resists",
    "memory",
    "output",
    "file size",
    "outliving the session",
}


@pytest.fixture(scope="module")
def checks():
    return {check.name: check for check in diagnose()}


def test_what_needs_no_rights_holds(checks):
    assert [checks[name] for name in sorted(EVERYWHERE) if not checks[name].holds] == []


def test_every_check_says_what_happened(checks):
    assert all(check.detail for check in checks.values())
