"""Digests of boot programs: the Authenticode digest that UEFI measures, and that of the whole file.

Windows Authenticode Portable Executable Signature Format, "Calculating the PE Image Hash"; TCG PC Client Platform
Firmware Profile 1.06, clause 3.3.4.4 has firmware extend that digest in every bank. The tools that sign pad a file to 8
bytes before they hash it; that padding is then part of the file. Firmware adds none, and neither is added here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from measlog.errors import UnsupportedError
from measlog.formats.pecoff import PeImage
from measlog.reference.fields import FrozenMapping
from measlog.reference.manifest import BANKS
from measlog.registry import Hash, hash_constructor

__all__ = ["Digester", "authenticode_digests", "flat_digests", "image_digests", "measured_ranges"]

CHUNK = 1 << 18


def measured_ranges(image: PeImage) -> Iterator[tuple[int, int]]:
    """The (start, end) byte ranges that the Authenticode digest covers, in the order in which they are hashed."""
    # Steps 3 to 6: the headers without CheckSum and the certificate table's directory entry.
    yield 0, image.checksum_offset
    start = image.checksum_offset + 4
    if image.security_entry is not None:
        yield start, image.security_entry
        start = image.security_entry + 8
    yield start, image.size_of_headers
    # Steps 7 to 12: the sections that have raw data, by their place in the file.
    hashed = image.size_of_headers
    stored = [section for section in image.sections if section.size_of_raw_data]
    for section in sorted(stored, key=lambda item: item.pointer_to_raw_data):
        yield section.pointer_to_raw_data, section.pointer_to_raw_data + section.size_of_raw_data
        hashed += section.size_of_raw_data
    # Steps 13 and 14: what is left, counted by size; with gaps between sections this is not where the last one ends.
    end = image.size - image.certificate_table[1]
    if hashed < end:
        yield hashed, end


def authenticode_digests(
    data: bytes | memoryview, algorithms: Sequence[str] = BANKS, *, image: PeImage | None = None
) -> Mapping[str, bytes]:
    """The Authenticode digests of a PE image by algorithm name; FormatError where ``data`` is none."""
    parsed = PeImage.from_bytes(data) if image is None else image
    digester = Digester(algorithms)
    view = memoryview(data)
    for start, end in measured_ranges(parsed):
        digester.update(view[start:end])
    return digester.digests()


def flat_digests(data: bytes | memoryview, algorithms: Sequence[str] = BANKS) -> Mapping[str, bytes]:
    """The digests of all of ``data`` by algorithm name."""
    digester = Digester(algorithms)
    digester.update(data)
    return digester.digests()


def image_digests(
    data: bytes | memoryview, algorithms: Sequence[str] = BANKS
) -> tuple[PeImage, Mapping[str, bytes], Mapping[str, bytes]]:
    """The parsed image, its Authenticode digests and its flat ones."""
    image = PeImage.from_bytes(data)
    return image, authenticode_digests(data, algorithms, image=image), flat_digests(data, algorithms)


class Digester:
    """Several digests of one stream of bytes, each byte fetched from memory once."""

    def __init__(self, algorithms: Sequence[str] = BANKS) -> None:
        self._hashers: dict[str, Hash] = {}
        for name in algorithms:
            constructor = hash_constructor(name)
            if constructor is None:
                raise UnsupportedError(f"this Python cannot compute {name}")
            self._hashers[name] = constructor()

    def update(self, data: bytes | memoryview) -> None:
        """Go on with ``data``."""
        view = memoryview(data)
        for start in range(0, len(view), CHUNK):
            chunk = view[start : start + CHUNK]
            for hasher in self._hashers.values():
                hasher.update(chunk)

    def digests(self) -> Mapping[str, bytes]:
        """The digests so far, by algorithm name."""
        return FrozenMapping({name: hasher.digest() for name, hasher in self._hashers.items()})
