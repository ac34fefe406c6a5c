"""Running commands in tests: in this process, with what they print and their exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from attrs import frozen
from referencing import Registry, Resource

from measlog.cli.main import main

SCHEMAS = Path(__file__).resolve().parents[2] / "src" / "measlog" / "schemas"
REGISTRY: Registry[Any] = Registry().with_resources(
    (f"urn:measlog:{path.stem.rpartition('-')[0]}:1", Resource.from_contents(json.loads(path.read_text())))
    for path in SCHEMAS.glob("*-1.json")
)


@frozen
class Outcome:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document on standard output, found valid against the schema that it names."""
        made: dict[str, Any] = json.loads(self.out)
        assert next(iter(made)) == "measlog"
        name, _, version = made["measlog"].partition("/")
        schema = REGISTRY.contents(f"urn:measlog:{name}:{version}")
        jsonschema.Draft202012Validator(schema, registry=REGISTRY).validate(made)
        return made


class Runner:
    """Runs ``measlog`` with words as a shell would pass them."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str | Path) -> Outcome:
        """Run one command."""
        self._capsys.readouterr()
        status = main([str(word) for word in words])
        out, err = self._capsys.readouterr()
        assert "Traceback" not in out + err
        return Outcome(status, out, err)
