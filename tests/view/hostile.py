"""A log whose every text is an attack on whoever shows it, with a quote that verifies: only what it says is wrong.

Bytes are put together with struct alone, registers and quote by :mod:`fixtures.attacks.forge`.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from html.parser import HTMLParser

import measlog as ml
from fixtures.attacks.forge import ForgedEvent, ForgedLog
from tests.appraisal.machine import good_log

PAYLOADS = (
    "<script>document.title='PWNED'</script>",
    "\"><img src=x onerror=document.title='PWNED'>",
    "'><svg/onload=document.title='PWNED'>",
    "</style></title></textarea></script><script>document.title='PWNED'</script>",
    "<!--<script>document.title='PWNED'</script>-->]]>",
    "<a href=javascript:document.title='PWNED' autofocus onfocus=document.title='PWNED'>x</a>",
    "<meta http-equiv=refresh content=0;url=http://attacker.invalid/>",
    "<link rel=stylesheet href=http://attacker.invalid/x.css><base href=http://attacker.invalid/>",
    "{{7*7}}{% include 'x' %}${7*7}",
    "&lt;script&gt;document.title='PWNED'&lt;/script&gt;",
    "\u202etxet desrever\u202c \u200b\x1b[31mred\x07 \r\n\t\x00",
)
MARK = "PWNED"

_IPL, _ACTION, _VARIABLE, _GPT, _BLOB2, _CRTM, _TAG, _IMAGE = (
    0x0D,
    0x80000007,
    0x80000001,
    0x80000006,
    0x8000000A,
    0x08,
    0x06,
    0x80000003,
)


def utf16(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass")


def variable(name: str, value: bytes) -> bytes:
    return b"\x11" * 16 + struct.pack("<QQ", len(utf16(name)) // 2, len(value)) + utf16(name) + value


def image(path: str) -> bytes:
    node = utf16(path) + b"\0\0"
    nodes = struct.pack("<BBH", 4, 4, 4 + len(node)) + node + b"\x7f\xff\x04\x00"
    return struct.pack("<QQQQ", 1, 2, 3, len(nodes)) + nodes


def gpt(name: str) -> bytes:
    label = utf16(name)[:72].ljust(72, b"\0")
    header = struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, 1, 2, 3, 4, b"\x22" * 16, 2, 1, 128, 0)
    return header + struct.pack("<Q", 1) + b"\x33" * 16 + b"\x44" * 16 + struct.pack("<QQQ", 1, 2, 3) + label


def hostile_events() -> list[ForgedEvent]:
    """One event of each kind that carries text, for each payload."""
    made = []
    for payload in PAYLOADS:
        text = payload.encode("utf-8", "surrogatepass")
        for pcr, kind, data in (
            (8, _IPL, b"grub_cmd: " + text + b"\0"),
            (8, _IPL, b"kernel_cmdline: " + text + b"\0"),
            (8, _IPL, text + b"\xff\xfe\0"),
            (9, _IPL, text + b"\0"),
            (14, _IPL, text),
            (12, _IPL, utf16(payload)),
            (1, _ACTION, text),
            (7, _VARIABLE, variable(payload, text)),
            (7, _VARIABLE, variable("SbatLevel", text)),
            (1, 0x80000002, variable("Boot0001", struct.pack("<IH", 1, 4) + utf16(payload) + b"\0\0\x7f\xff\x04\x00")),
            (5, _GPT, gpt(payload)),
            (0, _BLOB2, bytes([len(text)]) + text + struct.pack("<QQ", 1, 2)),
            (0, _CRTM, utf16(payload)),
            (9, _TAG, struct.pack("<II", 0x8F3B22ED, len(text)) + text),
            (4, _IMAGE, image(payload)),
            (4, _IMAGE, text),
            (6, 0x12345678, text),
        ):
            made.append(ForgedEvent(pcr, kind, {4: b"", 11: b"", 12: b""}, data).rehashed(data))
    return made


def hostile_log() -> ForgedLog:
    """A good machine's log with all of that before its last event."""
    good = good_log()
    return replace(good, events=(*good.events[:-1], *hostile_events(), good.events[-1]))


def hostile_eventlog() -> ml.EventLog:
    return ml.EventLog.from_bytes(hostile_log().put_together())


class Seen(HTMLParser):
    """What a browser would find in a page: elements, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.ids: list[str] = []
        self.comments: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in {"href", "src"}:
                self.links.add(value or "")
            if name == "id":
                self.ids.append(value or "")
        if tag not in {"meta", "br", "hr", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)
