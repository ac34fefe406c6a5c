"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
FIXTURES = ROOT / "fixtures"

# The ordinary run is the same each time, so that what passed once passes again; "long" looks for what is new.
settings.register_profile(
    "default", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("long", deadline=None, max_examples=5_000, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "short",
    deadline=None,
    max_examples=8,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("MEASLOG_HYPOTHESIS", "default"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes long unless a marker expression asks for it."""
    if config.option.markexpr:
        return
    chosen = [
        item for item in items if not ({"slow", "lab", "browser", "engines"} & {m.name for m in item.iter_markers()})
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen


def shared_path(*parts: str) -> Path:
    """A path in the shared data; skips the calling test, saying so, where there is none."""
    path = SHARED.joinpath(*parts)
    if not SHARED.is_dir():
        if os.environ.get("MEASLOG_REQUIRE_SHARED"):
            pytest.fail("needs ../shared, which is not beside this checkout, and MEASLOG_REQUIRE_SHARED is set")
        pytest.skip("needs ../shared, which is not beside this checkout")
    return path


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the shared corpus and captures."""
    return shared_path()


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The project's own captures."""
    return FIXTURES
