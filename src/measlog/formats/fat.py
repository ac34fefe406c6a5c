"""FAT12, FAT16 and FAT32 file systems with long names, read only.

Microsoft Extensible Firmware Initiative FAT32 File System Specification 1.03 ("fatgen103"). Cluster chains are read as
runs of neighbouring clusters. A cluster belongs to one file: chains that loop or cross are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import construct as c
import numpy as np
from attrs import field, frozen
from attrs.validators import instance_of
from numpy.typing import NDArray

from measlog.errors import FormatError, LimitExceededError, UnsupportedError
from measlog.formats.blocks import Blocks
from measlog.limits import DEFAULT_LIMITS, Limits

__all__ = ["BIOS_PARAMETER_BLOCK", "DIRECTORY_ENTRY", "LONG_DIRECTORY_ENTRY", "FatFile", "FatVolume"]

BOOT_CLAUSE = "fatgen103, Boot Sector and BPB"
TABLE_CLAUSE = "fatgen103, FAT Data Structure"
DIRECTORY_CLAUSE = "fatgen103, FAT Directory Structure"

BIOS_PARAMETER_BLOCK = c.Struct(
    "BS_jmpBoot" / c.Bytes(3),
    "BS_OEMName" / c.Bytes(8),
    "BPB_BytsPerSec" / c.Int16ul,
    "BPB_SecPerClus" / c.Int8ul,
    "BPB_RsvdSecCnt" / c.Int16ul,
    "BPB_NumFATs" / c.Int8ul,
    "BPB_RootEntCnt" / c.Int16ul,
    "BPB_TotSec16" / c.Int16ul,
    "BPB_Media" / c.Int8ul,
    "BPB_FATSz16" / c.Int16ul,
    "BPB_SecPerTrk" / c.Int16ul,
    "BPB_NumHeads" / c.Int16ul,
    "BPB_HiddSec" / c.Int32ul,
    "BPB_TotSec32" / c.Int32ul,
)

BPB_FAT16 = c.Struct(
    "BS_DrvNum" / c.Int8ul,
    "BS_Reserved1" / c.Int8ul,
    "BS_BootSig" / c.Int8ul,
    "BS_VolID" / c.Int32ul,
    "BS_VolLab" / c.Bytes(11),
    "BS_FilSysType" / c.Bytes(8),
)

BPB_FAT32 = c.Struct(
    "BPB_FATSz32" / c.Int32ul,
    "BPB_ExtFlags" / c.Int16ul,
    "BPB_FSVer" / c.Int16ul,
    "BPB_RootClus" / c.Int32ul,
    "BPB_FSInfo" / c.Int16ul,
    "BPB_BkBootSec" / c.Int16ul,
    "BPB_Reserved" / c.Bytes(12),
    *BPB_FAT16.subcons,
)

DIRECTORY_ENTRY = c.Struct(
    "DIR_Name" / c.Bytes(11),
    "DIR_Attr" / c.Int8ul,
    "DIR_NTRes" / c.Int8ul,
    "DIR_CrtTimeTenth" / c.Int8ul,
    "DIR_CrtTime" / c.Int16ul,
    "DIR_CrtDate" / c.Int16ul,
    "DIR_LstAccDate" / c.Int16ul,
    "DIR_FstClusHI" / c.Int16ul,
    "DIR_WrtTime" / c.Int16ul,
    "DIR_WrtDate" / c.Int16ul,
    "DIR_FstClusLO" / c.Int16ul,
    "DIR_FileSize" / c.Int32ul,
)

LONG_DIRECTORY_ENTRY = c.Struct(
    "LDIR_Ord" / c.Int8ul,
    "LDIR_Name1" / c.Bytes(10),
    "LDIR_Attr" / c.Int8ul,
    "LDIR_Type" / c.Int8ul,
    "LDIR_Chksum" / c.Int8ul,
    "LDIR_Name2" / c.Bytes(12),
    "LDIR_FstClusLO" / c.Int16ul,
    "LDIR_Name3" / c.Bytes(4),
)

ATTR_VOLUME_ID, ATTR_DIRECTORY, ATTR_LONG_NAME = 0x08, 0x10, 0x0F
TABLE_LIMIT = 16 << 20
DIRECTORY_LIMIT = 65_536 * 32
CHUNK = 4 << 20


@frozen(kw_only=True)
class FatFile:
    """A file or directory: ``path`` from the root without leading slash, ``size`` in bytes, first cluster, attributes."""

    path: str = field(validator=instance_of(str))
    size: int = field(validator=instance_of(int))
    cluster: int = field(validator=instance_of(int))
    attributes: int = field(validator=instance_of(int))

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return bool(self.attributes & ATTR_DIRECTORY)


class FatVolume:
    """A FAT volume. Opening it reads boot sector and table; :meth:`files` walks the directories.

    ``kind`` is 12, 16 or 32; ``serial`` the volume's serial number, ``label`` its label. The table is held in memory
    (16 MiB at most); files are read run by run. Every chain is followed when the files are listed.
    """

    def __init__(self, blocks: Blocks, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self._blocks = blocks
        self._limits = limits
        boot = blocks.read(0, 512)
        bpb = BIOS_PARAMETER_BLOCK.parse(boot)
        if boot[510:512] != b"\x55\xaa" or bpb.BS_jmpBoot[:1] not in {b"\xeb", b"\xe9"}:
            raise FormatError("no boot sector: no FAT file system", offset=0, path="BPB", clause=BOOT_CLAUSE)
        sector, per_cluster = bpb.BPB_BytsPerSec, bpb.BPB_SecPerClus
        if sector not in {512, 1024, 2048, 4096}:
            raise _bpb("BPB_BytsPerSec", f"{sector} is none of 512, 1024, 2048, 4096", 11)
        if per_cluster == 0 or per_cluster & (per_cluster - 1):
            raise _bpb("BPB_SecPerClus", f"{per_cluster} is no power of two", 13)
        if bpb.BPB_RsvdSecCnt == 0:
            raise _bpb("BPB_RsvdSecCnt", "no reserved sectors", 14)
        if not 1 <= bpb.BPB_NumFATs <= 4:
            raise _bpb("BPB_NumFATs", f"{bpb.BPB_NumFATs} tables", 16)
        wide = bpb.BPB_FATSz16 == 0
        more = (BPB_FAT32 if wide else BPB_FAT16).parse(boot[36:])
        table_sectors = more.BPB_FATSz32 if wide else bpb.BPB_FATSz16
        total = bpb.BPB_TotSec16 or bpb.BPB_TotSec32
        if total * sector > blocks.size:
            raise _bpb("BPB_TotSec32", f"{total} sectors of {sector} bytes in a partition of {blocks.size}", 32)
        root_sectors = (bpb.BPB_RootEntCnt * 32 + sector - 1) // sector
        data_sector = bpb.BPB_RsvdSecCnt + bpb.BPB_NumFATs * table_sectors + root_sectors
        if table_sectors == 0 or data_sector >= total:
            raise _bpb("BPB_FATSz32", f"the data would start at sector {data_sector} of {total}", 36)
        clusters = (total - data_sector) // per_cluster
        self.kind = 12 if clusters < 4085 else 16 if clusters < 65525 else 32
        if (self.kind == 32) != wide:
            raise _bpb("BPB_FATSz16", f"{clusters} clusters make it FAT{self.kind}, the fields say otherwise", 22)
        self._clusters = clusters
        self._cluster_size = sector * per_cluster
        self._data = data_sector * sector
        self._root_cluster = more.BPB_RootClus if wide else 0
        self._root = (data_sector - root_sectors) * sector, bpb.BPB_RootEntCnt * 32
        self.serial: int = more.BS_VolID
        self.label = _oem(more.BS_VolLab).rstrip()
        self._table = self._read_table(bpb.BPB_RsvdSecCnt * sector, table_sectors * sector, clusters + 2)
        self._owned = np.zeros(clusters + 2, dtype=np.bool_)
        self._fragments = 0
        self._chains: dict[str, list[tuple[int, int]]] = {}
        self._files: tuple[FatFile, ...] | None = None

    @classmethod
    def from_blocks(cls, blocks: Blocks, *, limits: Limits = DEFAULT_LIMITS) -> Self:
        """The volume in ``blocks``; FormatError where there is none."""
        return cls(blocks, limits=limits)

    @property
    def uuid(self) -> str:
        """The serial number as GRUB and blkid print it: ``5F1A-7C42``."""
        return f"{self.serial >> 16:04X}-{self.serial & 0xFFFF:04X}"

    def _read_table(self, start: int, stored: int, entries: int) -> NDArray[np.uint32]:
        length = {12: (entries * 3 + 1) // 2, 16: entries * 2, 32: entries * 4}[self.kind]
        if length > stored:
            raise FormatError(
                f"{entries} entries do not fit into a table of {stored} bytes",
                offset=start,
                path="FAT",
                clause=TABLE_CLAUSE,
            )
        if length > TABLE_LIMIT:
            raise LimitExceededError(
                f"a table of {length} bytes, the limit is {TABLE_LIMIT}", offset=start, path="FAT", clause=TABLE_CLAUSE
            )
        raw = self._blocks.read(start, length)
        if self.kind == 32:
            return np.frombuffer(raw, dtype="<u4").astype(np.uint32) & np.uint32(0x0FFFFFFF)
        if self.kind == 16:
            return np.frombuffer(raw, dtype="<u2").astype(np.uint32)
        packed = np.frombuffer(raw + b"\0" * (-len(raw) % 3), dtype=np.uint8).reshape(-1, 3).astype(np.uint32)
        table = np.empty((len(packed), 2), dtype=np.uint32)
        table[:, 0] = packed[:, 0] | (packed[:, 1] & 0x0F) << 8
        table[:, 1] = packed[:, 1] >> 4 | packed[:, 2] << 4
        return table.reshape(-1)[:entries]

    def _runs(self, first: int, count: int | None, path: str) -> list[tuple[int, int]]:
        """Runs (first cluster, length) of the chain from ``first``: ``count`` clusters, or to its end."""
        table, top = self._table, self._clusters + 2
        limit = DIRECTORY_LIMIT // self._cluster_size + 1 if count is None else count
        runs: list[tuple[int, int]] = []
        cluster, taken = first, 0
        while count is None or taken < count:
            if not 2 <= cluster < top:
                raise FormatError(
                    f"{path!r}: after {taken} clusters the chain goes to {cluster}; the volume has 2 to {top - 1}",
                    path="FAT",
                    clause=TABLE_CLAUSE,
                )
            self._fragments += 1
            if self._fragments > self._limits.items:
                raise LimitExceededError(f"more than {self._limits.items} fragments", path="FAT", clause=TABLE_CLAUSE)
            # The longest stretch of neighbours from here, looked for in growing windows.
            window = 64
            while True:
                stop = min(cluster + window, top)
                links = table[cluster : stop - 1]
                breaks = np.flatnonzero(links != np.arange(cluster + 1, stop, dtype=np.uint32))
                length = int(breaks[0]) + 1 if len(breaks) else stop - cluster
                if len(breaks) or stop == top or length >= limit - taken:
                    break
                window *= 8
            length = min(length, limit - taken)
            if self._owned[cluster : cluster + length].any():
                twice = cluster + int(np.flatnonzero(self._owned[cluster : cluster + length])[0])
                raise FormatError(
                    f"{path!r}: cluster {twice} is in a loop or belongs to another file",
                    offset=self._data + (twice - 2) * self._cluster_size,
                    path="FAT",
                    clause=TABLE_CLAUSE,
                )
            self._owned[cluster : cluster + length] = True
            runs.append((cluster, length))
            taken += length
            following = int(table[cluster + length - 1])
            if count is None and following >= {12: 0xFF8, 16: 0xFFF8, 32: 0x0FFFFFF8}[self.kind]:
                break
            if count is None and taken >= limit:
                raise LimitExceededError(
                    f"{path!r}: a directory of more than {DIRECTORY_LIMIT} bytes", path="FAT", clause=DIRECTORY_CLAUSE
                )
            cluster = following
        return runs

    def _stretches(self, runs: list[tuple[int, int]]) -> Iterator[bytes]:
        for first, count in runs:
            place, left = self._data + (first - 2) * self._cluster_size, count * self._cluster_size
            while left:
                step = min(left, CHUNK)
                yield self._blocks.read(place, step)
                place, left = place + step, left - step

    def files(self) -> tuple[FatFile, ...]:
        """Every file of the volume, directories not included, in the order of the directories."""
        if self._files is None:
            self._files = tuple(entry for entry in self._walk() if not entry.is_directory)
        return self._files

    def _walk(self) -> Iterator[FatFile]:
        if self.kind == 32:
            root = b"".join(self._stretches(self._runs(self._root_cluster, None, "/")))
        else:
            root = self._blocks.read(*self._root)
        pending = [("", root, 1)]
        seen = 0
        names: set[str] = set()
        while pending:
            folder, raw, depth = pending.pop()
            for entry in _entries(raw, folder):
                if entry.attributes & ATTR_VOLUME_ID:
                    if not folder:
                        self.label = entry.path.rstrip()
                    continue
                seen += 1
                if seen > self._limits.fat_files:
                    raise LimitExceededError(
                        f"more than {self._limits.fat_files} files", path="directory", clause=DIRECTORY_CLAUSE
                    )
                if entry.path.lower() in names:
                    raise FormatError(f"{entry.path!r} is there twice", path="directory", clause=DIRECTORY_CLAUSE)
                names.add(entry.path.lower())
                if entry.is_directory:
                    if depth >= self._limits.depth:
                        raise LimitExceededError(
                            f"{entry.path!r} is nested deeper than {self._limits.depth} folders",
                            path="directory",
                            clause=DIRECTORY_CLAUSE,
                        )
                    inner = b"".join(self._stretches(self._runs(entry.cluster, None, entry.path)))
                    pending.append((entry.path + "/", inner, depth + 1))
                else:
                    self._chains[entry.path] = self._chain(entry)
                yield entry

    def _chain(self, file: FatFile) -> list[tuple[int, int]]:
        count = (file.size + self._cluster_size - 1) // self._cluster_size
        if count > self._clusters:
            raise FormatError(
                f"{file.path!r} has {file.size} bytes, more than the volume holds",
                path="DIR_FileSize",
                clause=DIRECTORY_CLAUSE,
            )
        return self._runs(file.cluster, count, file.path) if count else []

    def chunks(self, file: FatFile) -> Iterator[bytes]:
        """The bytes of one of :meth:`files`, in pieces of at most 4 MiB.

        Raises LimitExceededError for a file that is too large.
        """
        if file.size > self._limits.file_size:
            raise LimitExceededError(
                f"{file.path!r} has {file.size} bytes, the limit is {self._limits.file_size}",
                path="DIR_FileSize",
                clause=DIRECTORY_CLAUSE,
            )
        left = file.size
        for piece in self._stretches(self._chains[file.path]):
            yield piece[:left]
            left -= min(left, len(piece))

    def read(self, file: FatFile) -> bytes:
        """All bytes of one of :meth:`files`."""
        return b"".join(self.chunks(file))


def _bpb(name: str, message: str, offset: int) -> FormatError:
    return FormatError(message, offset=offset, path=f"BPB.{name}", clause=BOOT_CLAUSE)


def _oem(raw: bytes) -> str:
    # The code page of short names is not recorded; what is not ASCII is shown by its byte.
    return raw.decode("ascii", "backslashreplace")


def _short_name(entry: Any) -> str:
    raw: bytes = entry.DIR_Name
    if raw[0] == 0x05:
        raw = b"\xe5" + raw[1:]
    stem, suffix = _oem(raw[:8].rstrip(b" ")), _oem(raw[8:].rstrip(b" "))
    # Windows NT keeps "all lower case" of stem and suffix in two bits of DIR_NTRes.
    if entry.DIR_NTRes & 0x08:
        stem = stem.lower()
    if entry.DIR_NTRes & 0x10:
        suffix = suffix.lower()
    return f"{stem}.{suffix}" if suffix else stem


def _checksum(short: bytes) -> int:
    total = 0
    for byte in short:
        total = ((total & 1) << 7 | total >> 1) + byte & 0xFF
    return total


def _entries(raw: bytes, folder: str) -> Iterator[FatFile]:
    long: list[Any] = []
    for place in range(0, len(raw) - 31, 32):
        first = raw[place]
        if first == 0x00:
            return
        if first == 0xE5:
            long = []
            continue
        if raw[place + 11] & 0x3F == ATTR_LONG_NAME:
            part = LONG_DIRECTORY_ENTRY.parse(raw[place : place + 32])
            if part.LDIR_Ord & 0x40:
                long = []
            long.append(part)
            if len(long) > 20:
                raise FormatError(
                    "a long name of more than 20 entries", offset=place, path=f"{folder}*", clause=DIRECTORY_CLAUSE
                )
            continue
        entry = DIRECTORY_ENTRY.parse(raw[place : place + 32])
        name = _long_name(long, entry.DIR_Name)
        long = []
        if name is None:
            name = _short_name(entry)
        if entry.DIR_Attr & ATTR_VOLUME_ID:
            yield FatFile(path=_oem(entry.DIR_Name), size=0, cluster=0, attributes=entry.DIR_Attr)
            continue
        if name in {".", ".."}:
            continue
        if not name or "/" in name or "\0" in name:
            raise FormatError(f"the name {name!r} is none", offset=place, path=f"{folder}*", clause=DIRECTORY_CLAUSE)
        yield FatFile(
            path=folder + name,
            size=0 if entry.DIR_Attr & ATTR_DIRECTORY else entry.DIR_FileSize,
            cluster=entry.DIR_FstClusHI << 16 | entry.DIR_FstClusLO,
            attributes=entry.DIR_Attr,
        )


def _long_name(parts: list[Any], short: bytes) -> str | None:
    """The long name that belongs to ``short``, None where the parts are orphans: then the short name counts."""
    if not parts or not parts[0].LDIR_Ord & 0x40:
        return None
    numbers = [part.LDIR_Ord & 0x3F for part in parts]
    if numbers != list(range(len(parts), 0, -1)) or any(part.LDIR_Chksum != _checksum(short) for part in parts):
        return None
    raw = b"".join(part.LDIR_Name1 + part.LDIR_Name2 + part.LDIR_Name3 for part in reversed(parts))
    units = [raw[i : i + 2] for i in range(0, len(raw), 2)]
    if b"\0\0" in units:
        units = units[: units.index(b"\0\0")]
    try:
        return b"".join(units).decode("utf-16-le")
    except UnicodeDecodeError:
        raise UnsupportedError("a long name is not UTF-16", path="LDIR_Name", clause=DIRECTORY_CLAUSE) from None
