"""What the tests of the commands share."""

from __future__ import annotations

import pytest

from tests.cli.command import Runner


@pytest.fixture
def measlog(capsys: pytest.CaptureFixture[str]) -> Runner:
    """The ``measlog`` command."""
    return Runner(capsys)
