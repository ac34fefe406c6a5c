"""Predicted boots as a document for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from measlog.flatcar.boot import PredictedBoot
from measlog.flatcar.cmdline import ArgumentModel

__all__ = ["prediction_document"]


def prediction_document(boots: Sequence[PredictedBoot], *, banks: Sequence[str] = ("sha256",)) -> dict[str, Any]:
    """What ``predict --format json`` prints: bytes are lower-case hexadecimal, text that is not UTF-8 is escaped."""
    return {"measlog": "predict/1", "boots": [_boot(boot, banks) for boot in boots]}


def _boot(boot: PredictedBoot, banks: Sequence[str]) -> dict[str, Any]:
    return {
        "name": boot.name,
        "release": boot.release,
        "bootloader": boot.bootloader,
        "slot": boot.slot,
        "chosen": boot.chosen,
        "first_boot": boot.first_boot,
        "secure_boot": boot.secure_boot,
        "oem": boot.oem,
        "outcome": boot.outcome,
        "pcrs": {
            bank: {str(pcr): value.hex() for pcr, value in boot.pcrs[bank].items()}
            for bank in banks
            if bank in boot.pcrs
        },
        "unknown": {str(pcr): why for pcr, why in sorted(boot.unknown.items())},
        "assumptions": list(boot.assumptions),
        **({"moves": {str(pcr): why for pcr, why in sorted(boot.moves.items())}} if boot.moves else {}),
        "command_line": boot.command_line,
        "events": [
            {
                "pcr": event.pcr,
                "kind": event.kind,
                "type": int(event.type),
                "text": _text(event.text),
                "digests": {bank: event.digests[bank].hex() for bank in banks if bank in event.digests},
                **({} if event.arguments is None else {"arguments": _model(event.arguments)}),
            }
            for event in boot.events
        ],
    }


def _model(model: ArgumentModel) -> dict[str, Any]:
    """The rules that the text at ``{arguments}`` will keep."""
    return {
        "ordered": model.ordered,
        "rules": [
            {
                "name": _text(rule.name),
                "values": None if rule.values is None else [_text(value) for value in rule.values],
                "pattern": rule.pattern,
                "repeat": rule.repeat,
                "override": rule.override,
            }
            for rule in model.rules
        ],
    }


def _text(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")
