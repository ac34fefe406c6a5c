"""Reading what a machine sent, and naming the file that an error is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
from attrs import field, frozen

from measlog.cli.errors import InputError, about
from measlog.cli.files import KEY_LIMIT, read, read_log
from measlog.cli.further import IN_FOLDERS, read_further
from measlog.cli.options import HEX
from measlog.errors import (
    EvidenceError,
    FormatError,
    NonceError,
    PcrDigestError,
    ReplayError,
    SelectionError,
    SignatureError,
)
from measlog.evidence import AttestationKey, Evidence, Quote, VerifiedEvidence
from measlog.formats.tpm2 import parse_attest
from measlog.interop import tpm2files

__all__ = ["EvidenceFiles", "naming", "read_key", "read_pcrs", "read_quote", "verified_sample"]


@frozen(kw_only=True)
class EvidenceFiles:
    """Where the parts of the evidence of one machine lie."""

    log: str
    message: str
    signature: str
    key: str
    pcrs: str | None = None
    further: Mapping[str, str] = field(factory=dict)
    """Files of further logs, by source."""

    @classmethod
    def of_folder(cls, folder: str) -> EvidenceFiles:
        """The files of an evidence folder; ``quote.pcrs`` and further logs are there where they are needed."""
        base = Path(folder)
        with about(folder):
            if not base.is_dir():
                raise InputError(f"{folder}: " + ("is not a folder" if base.exists() else "No such file or directory"))
            pcrs = base / "quote.pcrs"
            further = {source: base / name for source, name in IN_FOLDERS.items()}
            return cls(
                log=str(base / "binary_bios_measurements"),
                message=str(base / "quote.msg"),
                signature=str(base / "quote.sig"),
                key=str(base / "ak.pub"),
                pcrs=str(pcrs) if pcrs.exists() else None,
                further={source: str(path) for source, path in further.items() if path.exists()},
            )

    def read(self, bank: str) -> tuple[Evidence, AttestationKey]:
        """The evidence, read and not verified, and the key to verify it with."""
        log = read_log(self.log)
        key = read_key(self.key)
        quote = read_quote(self.message, self.signature, key)
        values = None if self.pcrs is None else read_pcrs(self.pcrs, quote).get(bank)
        further = read_further(self.further, bank, values or {})
        return Evidence(log=log, quote=quote, pcrs=values, further=further), key


def read_quote(message: str, signature: str, key: AttestationKey) -> Quote:
    """The quote in two files as ``tpm2_quote`` writes them, its signature in either form."""
    attest = read(message, KEY_LIMIT)
    with about(message):
        parse_attest(attest)
    blob = read(signature, KEY_LIMIT)
    with about(signature):
        return tpm2files.read_quote(attest, blob, ak=key)


def read_key(path: str) -> AttestationKey:
    """The attestation key in a file: PEM or TPM2B_PUBLIC."""
    data = read(path, KEY_LIMIT)
    with about(path):
        try:
            return AttestationKey.load(data)
        except FormatError as error:
            raise InputError(f"{path}: neither a PEM public key nor a TPM2B_PUBLIC: {error}") from None


def read_pcrs(path: str, quote: Quote) -> Mapping[str, Mapping[int, bytes]]:
    """The register values beside a quote, by bank and index: the file of ``tpm2_quote -o``, or bare values."""
    data = read(path, KEY_LIMIT)
    with about(path):
        return tpm2files.read_register_values(data, quote.selections)


@contextmanager
def naming(files: EvidenceFiles) -> Iterator[None]:
    """Name the file that an :class:`~measlog.errors.EvidenceError` is about."""
    try:
        yield
    except (EvidenceError, FormatError) as error:
        raise InputError(f"{_culprit(files, error)}: {error}") from None


def _culprit(files: EvidenceFiles, error: EvidenceError | FormatError) -> str:
    if isinstance(error, SignatureError):
        return files.key if error.check.startswith("key") else files.signature
    if isinstance(error, PcrDigestError) and files.pcrs is not None:
        return files.pcrs
    if isinstance(error, NonceError | SelectionError | PcrDigestError):
        return files.message
    if isinstance(error, ReplayError):
        logs = [files.log, *files.further.values()]
        return ", ".join(logs[1:] if error.check.startswith("further") else logs)
    return files.message


def verified_sample(sample: str, bank: str) -> VerifiedEvidence:
    """The verified evidence of a machine, named as ``FOLDER=NONCEHEX``."""
    folder, separator, nonce = sample.rpartition("=")
    if not separator or not folder:
        raise click.UsageError(f"{sample!r} is not FOLDER=NONCEHEX.")
    files = EvidenceFiles.of_folder(folder)
    evidence, key = files.read(bank)
    with naming(files):
        return evidence.verify(ak=key, nonce=HEX.convert(nonce, None, None), bank=bank)
