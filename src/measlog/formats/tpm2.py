"""Structures of the TPM 2.0 and files of tpm2-tools.

Sources: TCG Trusted Platform Module Library, Part 2: Structures, version 1.59 (clause numbers below); tpm2-tools'
``tpm2_quote -o`` for the register file.
"""

from __future__ import annotations

from collections.abc import Mapping

import construct as c
from attrs import frozen

from measlog.errors import FormatError, UnsupportedError
from measlog.formats.declare import build, parse
from measlog.registry import ALGORITHMS, algorithm_name

__all__ = [
    "TPM_GENERATED_VALUE",
    "TPM_ST_ATTEST_QUOTE",
    "Attest",
    "ClockInfo",
    "PcrSelection",
    "PublicArea",
    "SignatureBlob",
    "build_signature",
    "parse_attest",
    "parse_pcr_file",
    "parse_public",
    "parse_signature",
]

TPM_GENERATED_VALUE = 0xFF544347
TPM_ST_ATTEST_QUOTE = 0x8018

TPM_ALG_RSA = 0x0001
TPM_ALG_NULL = 0x0010
TPM_ALG_RSASSA = 0x0014
TPM_ALG_RSAPSS = 0x0016
TPM_ALG_ECDSA = 0x0018
TPM_ALG_ECC = 0x0023

_MAX_SELECTIONS = 16
_MAX_SELECT_BYTES = 32
_TPM12_QUOTE = b"QUOT"

# 10.4.2 TPM2B_DIGEST and its kin: a size and as many bytes.
_TPM2B = c.Prefixed(c.Int16ub, c.GreedyBytes)

# 10.6.2 TPMS_PCR_SELECTION
TPMS_PCR_SELECTION = c.Struct("hash" / c.Int16ub, "pcrSelect" / c.Prefixed(c.Int8ub, c.GreedyBytes))

# 10.9.7 TPML_PCR_SELECTION
TPML_PCR_SELECTION = c.Struct(
    "count" / c.Int32ub,
    "bounded" / c.Check(lambda ctx: ctx.count <= _MAX_SELECTIONS),
    "pcrSelections" / c.Array(lambda ctx: ctx.count, TPMS_PCR_SELECTION),
)

# 10.11.1 TPMS_CLOCK_INFO
TPMS_CLOCK_INFO = c.Struct("clock" / c.Int64ub, "resetCount" / c.Int32ub, "restartCount" / c.Int32ub, "safe" / c.Int8ub)

# 10.12.1 TPMS_QUOTE_INFO
TPMS_QUOTE_INFO = c.Struct("pcrSelect" / TPML_PCR_SELECTION, "pcrDigest" / _TPM2B)

# 10.12.12 TPMS_ATTEST, of type TPM_ST_ATTEST_QUOTE
TPMS_ATTEST = c.Struct(
    "magic" / c.Int32ub,
    "type" / c.Int16ub,
    "qualifiedSigner" / _TPM2B,
    "extraData" / _TPM2B,
    "clockInfo" / TPMS_CLOCK_INFO,
    "firmwareVersion" / c.Int64ub,
    "attested" / TPMS_QUOTE_INFO,
)

# 11.3.4 TPMT_SIGNATURE, of the schemes that verify quotes
TPMT_SIGNATURE = c.Struct(
    "sigAlg" / c.Int16ub,
    "hash" / c.Int16ub,
    "signature"
    / c.Switch(
        lambda ctx: ctx.sigAlg,
        {
            TPM_ALG_RSASSA: _TPM2B,
            TPM_ALG_RSAPSS: _TPM2B,
            TPM_ALG_ECDSA: c.Struct("signatureR" / _TPM2B, "signatureS" / _TPM2B),
        },
        default=c.Error,
    ),
)

# 11.1.7 TPMT_SYM_DEF_OBJECT+
_TPMT_SYM_DEF_OBJECT = c.Struct(
    "algorithm" / c.Int16ub,
    "keyBits" / c.If(lambda ctx: ctx.algorithm != TPM_ALG_NULL, c.Int16ub),
    "mode" / c.If(lambda ctx: ctx.algorithm != TPM_ALG_NULL, c.Int16ub),
)

# 11.2.1.5 TPMT_SIG_SCHEME and 11.2.3.3 TPMT_KDF_SCHEME, both with a hash unless NULL
_SCHEME = c.Struct(
    "scheme" / c.Int16ub,
    "hash" / c.If(lambda ctx: ctx.scheme != TPM_ALG_NULL, c.Int16ub),
)

# 12.2.4 TPMT_PUBLIC, of RSA and ECC keys
TPMT_PUBLIC = c.Struct(
    "type" / c.Int16ub,
    "nameAlg" / c.Int16ub,
    "objectAttributes" / c.Int32ub,
    "authPolicy" / _TPM2B,
    "parameters"
    / c.Switch(
        lambda ctx: ctx.type,
        {
            TPM_ALG_RSA: c.Struct(
                "symmetric" / _TPMT_SYM_DEF_OBJECT,
                "scheme" / _SCHEME,
                "keyBits" / c.Int16ub,
                "exponent" / c.Int32ub,
            ),
            TPM_ALG_ECC: c.Struct(
                "symmetric" / _TPMT_SYM_DEF_OBJECT,
                "scheme" / _SCHEME,
                "curveID" / c.Int16ub,
                "kdf" / _SCHEME,
            ),
        },
        default=c.Error,
    ),
    "unique"
    / c.Switch(
        lambda ctx: ctx.type,
        {TPM_ALG_RSA: c.Struct("n" / _TPM2B), TPM_ALG_ECC: c.Struct("x" / _TPM2B, "y" / _TPM2B)},
        default=c.Error,
    ),
)

# 12.2.5 TPM2B_PUBLIC
TPM2B_PUBLIC = c.Struct("size" / c.Int16ub, "publicArea" / c.FixedSized(lambda ctx: ctx.size, c.GreedyBytes))

# tpm2_quote -o FILE, little-endian whatever the machine
_FILE_SELECTION = c.Struct("hash" / c.Int16ul, "sizeofSelect" / c.Int8ul, "pcrSelect" / c.Bytes(4), "pad" / c.Bytes(1))
_FILE_LIST = c.Struct("count" / c.Int32ul, "digests" / c.Array(8, c.Struct("size" / c.Int16ul, "buffer" / c.Bytes(64))))
TPM2_TOOLS_PCR_FILE = c.Struct(
    "count" / c.Int32ul,
    "selections" / c.Array(_MAX_SELECTIONS, _FILE_SELECTION),
    "listCount" / c.Int32ul,
)


@frozen(kw_only=True)
class PcrSelection:
    """TPMS_PCR_SELECTION: a bank by name, and PCR indices, ascending."""

    algorithm: str
    pcrs: tuple[int, ...]


@frozen(kw_only=True)
class ClockInfo:
    """TPMS_CLOCK_INFO: milliseconds of operation, TPM resets, restarts since, and whether the clock went back."""

    clock: int
    reset_count: int
    restart_count: int
    safe: bool


@frozen(kw_only=True)
class Attest:
    """TPMS_ATTEST of a quote."""

    qualified_signer: bytes
    extra_data: bytes
    clock_info: ClockInfo
    firmware_version: int
    selections: tuple[PcrSelection, ...]
    pcr_digest: bytes


@frozen(kw_only=True)
class SignatureBlob:
    """TPMT_SIGNATURE: ``value`` for RSASSA and RSAPSS; ``r`` and ``s`` for ECDSA."""

    scheme: int
    hash: int
    value: bytes = b""
    r: int = 0
    s: int = 0


@frozen(kw_only=True)
class PublicArea:
    """TPMT_PUBLIC of an RSA or ECC key, with the bytes that its name is computed over."""

    raw: bytes
    type: int
    name_alg: int
    attributes: int
    scheme: int
    scheme_hash: int | None
    rsa_modulus: int | None = None
    rsa_exponent: int | None = None
    curve: int | None = None
    x: int | None = None
    y: int | None = None


def parse_attest(data: bytes) -> Attest:
    """Read TPMS_ATTEST (Part 2, 10.12.12) of a quote; anything else is an UnsupportedError.

    Raises FormatError where it is malformed.
    """
    clause = "TPM 2.0 Part 2, 10.12.12"
    if data[4:8] == _TPM12_QUOTE:
        raise UnsupportedError("this is a TPM 1.2 quote (TPM_QUOTE_INFO), which is not supported", offset=4)
    magic = int.from_bytes(data[:4], "big")
    if len(data) >= 4 and magic != TPM_GENERATED_VALUE:
        raise UnsupportedError(
            f"magic 0x{magic:08x} instead of TPM_GENERATED_VALUE: not made by a TPM's quote command",
            offset=0,
            path="quote.magic",
            clause=clause,
        )
    kind = int.from_bytes(data[4:6], "big")
    if len(data) >= 6 and kind != TPM_ST_ATTEST_QUOTE:
        raise UnsupportedError(
            f"attestation type 0x{kind:04x} is not a quote", offset=4, path="quote.type", clause=clause
        )
    fields = parse(TPMS_ATTEST, data, clause=clause, path="quote")
    info = fields.clockInfo
    if info.safe not in {0, 1}:
        raise FormatError(f"TPMI_YES_NO is {info.safe}", path="quote.clockInfo.safe", clause=clause)
    return Attest(
        qualified_signer=fields.qualifiedSigner,
        extra_data=fields.extraData,
        clock_info=ClockInfo(
            clock=info.clock, reset_count=info.resetCount, restart_count=info.restartCount, safe=info.safe == 1
        ),
        firmware_version=fields.firmwareVersion,
        selections=tuple(
            _selection(s.hash, s.pcrSelect, f"quote.attested.pcrSelect[{i}]")
            for i, s in enumerate(fields.attested.pcrSelect.pcrSelections)
        ),
        pcr_digest=fields.attested.pcrDigest,
    )


def _selection(alg: int, bitmap: bytes, path: str) -> PcrSelection:
    if len(bitmap) > _MAX_SELECT_BYTES:
        raise FormatError(f"a PCR bitmap of {len(bitmap)} bytes", path=path, clause="TPM 2.0 Part 2, 10.6.2")
    pcrs = tuple(i for i in range(8 * len(bitmap)) if bitmap[i // 8] >> i % 8 & 1)
    return PcrSelection(algorithm=algorithm_name(alg), pcrs=pcrs)


def parse_signature(data: bytes) -> SignatureBlob:
    """Read TPMT_SIGNATURE (Part 2, 11.3.4); schemes that cannot sign a quote here are an UnsupportedError."""
    clause = "TPM 2.0 Part 2, 11.3.4"
    scheme = int.from_bytes(data[:2], "big")
    if len(data) >= 2 and scheme not in {TPM_ALG_RSASSA, TPM_ALG_RSAPSS, TPM_ALG_ECDSA}:
        raise UnsupportedError(
            f"signature scheme 0x{scheme:04x}; RSASSA, RSAPSS and ECDSA are supported",
            offset=0,
            path="signature.sigAlg",
            clause=clause,
        )
    fields = parse(TPMT_SIGNATURE, data, clause=clause, path="signature")
    if scheme == TPM_ALG_ECDSA:
        r, s = fields.signature.signatureR, fields.signature.signatureS
        return SignatureBlob(scheme=scheme, hash=fields.hash, r=int.from_bytes(r, "big"), s=int.from_bytes(s, "big"))
    return SignatureBlob(scheme=scheme, hash=fields.hash, value=fields.signature)


def build_signature(blob: SignatureBlob, size: int) -> bytes:
    """Write TPMT_SIGNATURE (Part 2, 11.3.4); ``size`` is that of ``r`` and ``s``, in bytes."""
    signature: object = blob.value
    if blob.scheme == TPM_ALG_ECDSA:
        signature = {"signatureR": blob.r.to_bytes(size, "big"), "signatureS": blob.s.to_bytes(size, "big")}
    return build(TPMT_SIGNATURE, {"sigAlg": blob.scheme, "hash": blob.hash, "signature": signature})


def parse_public(data: bytes) -> PublicArea:
    """Read TPM2B_PUBLIC (Part 2, 12.2.5) of an RSA or ECC key.

    Raises FormatError; UnsupportedError for keys of other types.
    """
    clause = "TPM 2.0 Part 2, 12.2.5"
    raw = parse(TPM2B_PUBLIC, data, clause=clause, path="public").publicArea
    kind = int.from_bytes(raw[:2], "big")
    if len(raw) >= 2 and kind not in {TPM_ALG_RSA, TPM_ALG_ECC}:
        raise UnsupportedError(f"key type 0x{kind:04x}; RSA and ECC are supported", offset=2, path="public.type")
    fields = parse(TPMT_PUBLIC, raw, clause="TPM 2.0 Part 2, 12.2.4", path="public", base=2)
    params, unique = fields.parameters, fields.unique
    rsa = kind == TPM_ALG_RSA
    return PublicArea(
        raw=raw,
        type=kind,
        name_alg=fields.nameAlg,
        attributes=fields.objectAttributes,
        scheme=params.scheme.scheme,
        scheme_hash=params.scheme.hash,
        rsa_modulus=int.from_bytes(unique.n, "big") if rsa else None,
        rsa_exponent=(params.exponent or 65537) if rsa else None,
        curve=None if rsa else params.curveID,
        x=None if rsa else int.from_bytes(unique.x, "big"),
        y=None if rsa else int.from_bytes(unique.y, "big"),
    )


def parse_pcr_file(data: bytes) -> Mapping[str, Mapping[int, bytes]]:
    """Read the register file of ``tpm2_quote -o``: values by bank and PCR index.

    Every value is as long as its bank's digest, every selected register has exactly one. Raises FormatError.
    """
    clause = "tpm2-tools, tpm2_quote -o"
    head = parse(TPM2_TOOLS_PCR_FILE, data[: TPM2_TOOLS_PCR_FILE.sizeof()], clause=clause, path="pcrs")
    start, size = TPM2_TOOLS_PCR_FILE.sizeof(), _FILE_LIST.sizeof()
    if head.count > _MAX_SELECTIONS:
        raise FormatError(f"{head.count} selections, {_MAX_SELECTIONS} fit", offset=0, path="pcrs", clause=clause)
    if len(data) != start + head.listCount * size:
        raise FormatError(
            f"{head.listCount} lists of digests need {start + head.listCount * size} bytes, the file has {len(data)}",
            offset=start - 4,
            path="pcrs",
            clause=clause,
        )
    values: list[bytes] = []
    for i in range(head.listCount):
        at = start + i * size
        block = parse(_FILE_LIST, data[at : at + size], clause=clause, path=f"pcrs.lists[{i}]", base=at)
        if block.count > len(block.digests) or any(d.size > len(d.buffer) for d in block.digests):
            raise FormatError("a digest list that says more than it holds", offset=at, path=f"pcrs.lists[{i}]")
        values.extend(bytes(d.buffer[: d.size]) for d in block.digests[: block.count])
    banks: dict[str, dict[int, bytes]] = {}
    remaining = iter(values)
    for i, selection in enumerate(head.selections[: head.count]):
        path = f"pcrs.selections[{i}]"
        if selection.sizeofSelect > len(selection.pcrSelect):
            raise FormatError(f"a PCR bitmap of {selection.sizeofSelect} bytes", path=path, clause=clause)
        chosen = _selection(selection.hash, selection.pcrSelect[: selection.sizeofSelect], path)
        if chosen.algorithm in banks:
            raise FormatError(f"the bank {chosen.algorithm} is selected twice", path=path, clause=clause)
        known = ALGORITHMS.get(selection.hash)
        bank = banks[chosen.algorithm] = {}
        for pcr in chosen.pcrs:
            value = next(remaining, None)
            if value is None or (known is not None and len(value) != known.size):
                raise FormatError(
                    f"no value of the right length for {chosen.algorithm} PCR {pcr}", path=path, clause=clause
                )
            bank[pcr] = value
    if next(remaining, None) is not None:
        raise FormatError("more values than selected registers", path="pcrs.lists", clause=clause)
    return banks
