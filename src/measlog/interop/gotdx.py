"""The ``QuoteV4`` message of go-tdx-guest, put together to the quote that it was taken apart from.

Source: google/go-tdx-guest, ``proto/tdx.proto``; the layout is Intel's (see :mod:`measlog.formats.tdx`). Lengths are
those of the layout: what the message says of sizes is compared with them.
"""

from __future__ import annotations

from collections.abc import Mapping

from measlog.errors import FormatError
from measlog.formats.protobuf import LEN, VARINT, WireField, bytes_of, int_of, message

__all__ = ["raw_quote"]

_CLAUSE = "go-tdx-guest, tdx.proto"

# Each message as its parts lie in a quote: (name, field number, bytes, whether it is a little-endian integer).
_Layout = tuple[tuple[str, int, int, bool], ...]
_HEADER: _Layout = (
    ("version", 1, 2, True),
    ("attestation_key_type", 2, 2, True),
    ("tee_type", 3, 4, True),
    ("pce_svn", 5, 2, False),
    ("qe_svn", 4, 2, False),
    ("qe_vendor_id", 6, 16, False),
    ("user_data", 7, 20, False),
)
_BODY: _Layout = (
    ("tee_tcb_svn", 1, 16, False),
    ("mr_seam", 2, 48, False),
    ("mr_signer_seam", 3, 48, False),
    ("seam_attributes", 4, 8, False),
    ("td_attributes", 5, 8, False),
    ("xfam", 6, 8, False),
    ("mr_td", 7, 48, False),
    ("mr_config_id", 8, 48, False),
    ("mr_owner", 9, 48, False),
    ("mr_owner_config", 10, 48, False),
    ("rtmrs", 11, 48, False),
    ("report_data", 12, 64, False),
)
_ENCLAVE: _Layout = (
    ("cpu_svn", 1, 16, False),
    ("misc_select", 2, 4, True),
    ("reserved1", 3, 28, False),
    ("attributes", 4, 16, False),
    ("mr_enclave", 5, 32, False),
    ("reserved2", 6, 32, False),
    ("mr_signer", 7, 32, False),
    ("reserved3", 8, 96, False),
    ("isv_prod_id", 9, 2, True),
    ("isv_svn", 10, 2, True),
    ("reserved4", 11, 60, False),
    ("report_data", 12, 64, False),
)
_RTMRS = 4
_QUOTE = {1: ("header", LEN, False), 2: ("body", LEN, False), 3: ("size", VARINT, False), 4: ("signed", LEN, False)}
_SIGNED = {1: ("signature", LEN, False), 2: ("key", LEN, False), 3: ("certification", LEN, False)}
_CERTIFICATION = {1: ("type", VARINT, False), 2: ("size", VARINT, False), 3: ("data", LEN, False)}
_QE = {1: ("report", LEN, False), 2: ("signature", LEN, False), 3: ("auth", LEN, False), 4: ("chain", LEN, False)}
_AUTH = {1: ("size", VARINT, False), 2: ("data", LEN, False)}


def raw_quote(data: bytes) -> bytes:
    """The quote, for :class:`measlog.evidence.tdx.TdxQuote`; bytes that filled the buffer behind it are left out.

    Raises :class:`~measlog.errors.FormatError` for fields of the wrong size or number, and sizes that are not theirs.
    """
    parts = message(data, _QUOTE)
    signed = message(_one(parts, "signed", "signed_data"), _SIGNED, path="signed_data")
    certification = message(
        _one(signed, "certification", "signed_data.certification_data"), _CERTIFICATION, path="certification_data"
    )
    qe = message(_one(certification, "data", "certification_data"), _QE, path="qe_report_certification_data")
    auth = message(_one(qe, "auth", "qe_auth_data"), _AUTH, path="qe_auth_data")
    chain = message(_one(qe, "chain", "pck_certificate_chain_data"), _CERTIFICATION, path="pck_certificate_chain_data")
    authentication = bytes_of(auth["data"])
    inner = (
        _packed(_one(qe, "report", "qe_report"), _ENCLAVE, "qe_report")
        + _exactly(_one(qe, "signature", "qe_report_signature"), 64, "qe_report_signature")
        + _counted(auth, authentication, 2, "qe_auth_data.parsed_data_size")
        + _typed(chain, bytes_of(chain["data"]), "pck_certificate_chain_data")
    )
    made = (
        _exactly(_one(signed, "signature", "signature"), 64, "signed_data.signature")
        + _exactly(_one(signed, "key", "ecdsa_attestation_key"), 64, "signed_data.ecdsa_attestation_key")
        + _typed(certification, inner, "certification_data")
    )
    return (
        _packed(_one(parts, "header", "header"), _HEADER, "header")
        + _packed(_one(parts, "body", "td_quote_body"), _BODY, "td_quote_body")
        + _counted(parts, made, 4, "signed_data_size")
    )


def _packed(data: bytes, layout: _Layout, path: str) -> bytes:
    known = {number: (name, VARINT if integer else LEN, name == "rtmrs") for name, number, _, integer in layout}
    found = message(data, known, path=path)
    made = b""
    for name, _, size, integer in layout:
        where = f"{path}.{name}"
        if integer:
            made += _little(int_of(found[name]), size, where)
        elif name == "rtmrs":
            if len(found[name]) != _RTMRS:
                raise FormatError(f"{len(found[name])} registers instead of {_RTMRS}", path=where, clause=_CLAUSE)
            made += b"".join(_exactly(bytes_of([item]), size, where) for item in found[name])
        else:
            made += _exactly(bytes_of(found[name]), size, where)
    return made


def _typed(found: Mapping[str, list[WireField]], data: bytes, path: str) -> bytes:
    """CERTIFICATION_DATA: type, size and data."""
    return _little(int_of(found["type"]), 2, f"{path}.certificate_data_type") + _counted(found, data, 4, f"{path}.size")


def _counted(found: Mapping[str, list[WireField]], data: bytes, width: int, path: str) -> bytes:
    said = int_of(found["size"])
    if said != len(data):
        raise FormatError(f"says {said}, holds {len(data)} bytes", path=path, clause=_CLAUSE)
    return _little(said, width, path) + data


def _little(number: int, width: int, path: str) -> bytes:
    if number >> 8 * width:
        raise FormatError(f"{number} needs more than {width} bytes", path=path, clause=_CLAUSE)
    return number.to_bytes(width, "little")


def _exactly(data: bytes, size: int, path: str) -> bytes:
    if len(data) != size:
        raise FormatError(f"{len(data)} bytes instead of {size}", path=path, clause=_CLAUSE)
    return data


def _one(found: Mapping[str, list[WireField]], name: str, path: str) -> bytes:
    if not found[name]:
        raise FormatError("is missing", path=path, clause=_CLAUSE)
    return bytes_of(found[name])
