"""Flatcar Container Linux: its images and releases, its boot chain, and what a boot of it measures."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from measlog.flatcar.arguments import oem_with_arguments
    from measlog.flatcar.boot import PredictedBoot, predict
    from measlog.flatcar.cmdline import ArgumentModel, ArgumentRule
    from measlog.flatcar.image import Image
    from measlog.flatcar.release import Release

__all__ = ["ArgumentModel", "ArgumentRule", "Image", "PredictedBoot", "Release", "oem_with_arguments", "predict"]

_HOMES = {
    "ArgumentModel": "measlog.flatcar.cmdline",
    "ArgumentRule": "measlog.flatcar.cmdline",
    "Image": "measlog.flatcar.image",
    "PredictedBoot": "measlog.flatcar.boot",
    "Release": "measlog.flatcar.release",
    "oem_with_arguments": "measlog.flatcar.arguments",
    "predict": "measlog.flatcar.boot",
}


def __getattr__(name: str) -> Any:
    # Loaded when first asked for: a verifier that only reads manifests needs no disk reader.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
