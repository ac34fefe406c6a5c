"""Every event of every log at hand is decoded."""

from __future__ import annotations

from pathlib import Path

import pytest

from measlog.records import (
    BareCertificate,
    DevicePath,
    GptEvent,
    ImageLoadEvent,
    LoadOption,
    Opaque,
    SignatureData,
    SignatureLists,
    TaggedEvent,
    Undecodable,
    VariableData,
)
from measlog.registry import EventType
from tests.records.logs import log_id, own_logs, read, shared_logs

LOGS = [*own_logs(), *shared_logs()]
logs = pytest.mark.parametrize("path", LOGS, ids=log_id)

# Types whose data the profile leaves to the platform: bytes are a full answer.
_FREE = {EventType.EV_COMPACT_HASH, EventType.EV_S_CRTM_VERSION}


@logs
def test_no_event_is_left_undecoded(path: Path) -> None:
    for event in read(path):
        data = event.data
        assert not isinstance(data, Undecodable), (event.index, data)
        assert data.to_bytes() == event.raw
        if isinstance(data, VariableData | TaggedEvent):
            assert not isinstance(data.decoded, Undecodable), (event.index, data.decoded)
        if isinstance(data, Opaque) and event.register.kind != "none":
            assert event.type in _FREE, event.index
        for start, end in data.spans.values():
            assert 0 <= start <= end <= len(event.raw)


# cryptography's word about a country name of three letters in a vendor's certificate
@pytest.mark.filterwarnings("ignore:Attribute's length must be:UserWarning")
@logs
def test_device_paths_and_certificates_are_read_to_the_bottom(path: Path) -> None:
    for event in read(path):
        data = event.data
        paths = [data.device_path] if isinstance(data, ImageLoadEvent) else []
        if isinstance(data, VariableData) and isinstance(data.decoded, LoadOption):
            paths.extend(data.decoded.file_path_list)
        for found in paths:
            assert isinstance(found, DevicePath), event.index
            if found.nodes:
                assert DevicePath.from_text(found.text) == found
                assert "Path(" not in found.text, found.text
        if not isinstance(data, VariableData):
            continue
        if isinstance(data.decoded, BareCertificate):
            assert data.decoded.certificate.subject.rdns
        if isinstance(data.decoded, SignatureData) and data.decoded.data[:1] == b"\x30":
            assert data.decoded.certificate.subject.rdns
        if isinstance(data.decoded, SignatureLists):
            for item in data.decoded.lists:
                if item.type_name == "EFI_CERT_X509":
                    assert all(s.certificate.subject.rdns for s in item.signatures)


def test_the_partitions_of_a_flatcar_layout() -> None:
    # The labels are those of the table in Flatcar's disk layout, not read from the log.
    path = next(p for p in own_logs() if p.parent.name == "flatcar-lab-good")
    (gpt,) = [event.data for event in read(path) if isinstance(event.data, GptEvent)]
    names = [entry.name for entry in gpt.partitions]
    assert names[0] == "EFI-SYSTEM"
    assert {"USR-A", "USR-B", "OEM", "ROOT"} <= set(names)
