"""What the commands that appraise a machine share: their options, and reading what these name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from attrs import evolve, field, frozen

from measlog.appraisal.policy import Policy
from measlog.appraisal.result import AppraisalResult
from measlog.appraisal.verifier import Verifier
from measlog.cli.errors import about
from measlog.cli.evidence import EvidenceFiles, naming
from measlog.cli.files import KEY_LIMIT, read
from measlog.cli.manifests import read_baseline, read_manifest, read_public_key, unsafe_read_unsigned_manifest
from measlog.cli.options import FILE, HEX, IMA_LOG, MIN_VERSION, USERSPACE_LOG
from measlog.cli.policy import NAMES, choose_policy
from measlog.evidence import AttestationKey, Evidence, VerifiedEvidence
from measlog.evidence.trust import load_certificates, verify_ak_certificate
from measlog.reference.manifest import ReferenceManifest
from measlog.registry import ALGORITHMS_BY_NAME

__all__ = ["Case", "Request", "appraisal_options"]

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.argument("folder", type=FILE, required=False, metavar="[FOLDER]"),
    click.option("--log", type=FILE, help="The event log, in place of FOLDER."),
    click.option("--quote", "message", type=FILE, metavar="MSG", help="TPMS_ATTEST (tpm2_quote -m)."),
    click.option("--signature", type=FILE, metavar="SIG", help="TPMT_SIGNATURE (tpm2_quote -s)."),
    click.option("--ak", type=FILE, metavar="KEY", help="Attestation key: PEM or TPM2B_PUBLIC."),
    click.option("--ak-chain", type=FILE, metavar="PEM", help="Certificates of the AK, its own first."),
    click.option("--ak-roots", type=FILE, metavar="PEM", help="Roots that the AK's certificates must end in."),
    click.option("--pcrs", type=FILE, metavar="FILE", help="Register values (tpm2_quote -o)."),
    USERSPACE_LOG,
    IMA_LOG,
    click.option("--nonce", type=HEX, required=True, metavar="HEX", help="The nonce that you sent."),
    click.option(
        "--manifest",
        "manifests",
        type=FILE,
        multiple=True,
        required=True,
        metavar="M",
        help="Signed reference manifest.",
    ),
    click.option(
        "--manifest-key", "keys", type=FILE, multiple=True, metavar="PEM", help="Key that signs the manifests."
    ),
    click.option("--unsafe-unsigned-manifest", "unsigned", is_flag=True, help="Believe manifests that nobody signed."),
    MIN_VERSION,
    click.option(
        "--baseline", "baselines", type=FILE, multiple=True, metavar="B", help="Baseline of platform registers."
    ),
    click.option(
        "--policy", default="flatcar", show_default=True, metavar="P", help=f"{', '.join(NAMES)}, or a TOML file."
    ),
    click.option(
        "--bank",
        type=click.Choice(list(ALGORITHMS_BY_NAME)),
        default="sha256",
        show_default=True,
        help="Verified bank.",
    ),
)


def appraisal_options(function: F) -> F:
    """The argument and the options that name a machine's evidence, the references and the policy."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@frozen(kw_only=True)
class Case:
    """Everything that was read, and nothing of it verified but the manifests."""

    files: EvidenceFiles
    evidence: Evidence
    key: AttestationKey
    policy: Policy
    manifests: tuple[str, ...]
    references: tuple[ReferenceManifest, ...]
    verifier: Verifier
    nonce: bytes
    bank: str

    def verify(self) -> VerifiedEvidence:
        """The evidence, verified; the error names the file that it is about."""
        with naming(self.files):
            return self.evidence.verify(
                ak=self.key,
                nonce=self.nonce,
                bank=self.bank,
                required=self.policy.quoted,
                open_ended=self.policy.open_ended,
            )

    def appraise(self, verified: VerifiedEvidence) -> AppraisalResult:
        """The verdict; an error, which is about what the manifests demand, names them."""
        with about(", ".join(self.manifests)):
            return self.verifier.appraise(verified)


@frozen(kw_only=True)
class Request:
    """The options of :func:`appraisal_options` as they were given."""

    folder: str | None
    log: str | None
    message: str | None
    signature: str | None
    ak: str | None
    ak_chain: str | None
    ak_roots: str | None
    pcrs: str | None
    userspace_log: str | None
    ima_log: str | None
    nonce: bytes = field(repr=False)
    manifests: tuple[str, ...]
    keys: tuple[str, ...]
    unsigned: bool
    min_version: int | None
    baselines: tuple[str, ...]
    policy: str
    bank: str

    def read(self) -> Case:
        """Read the files, and verify the manifests and the key's certificates."""
        if self.unsigned == bool(self.keys):
            raise click.UsageError("Give either --manifest-key or --unsafe-unsigned-manifest.")
        if (self.ak_chain is None) != (self.ak_roots is None):
            raise click.UsageError("--ak-chain and --ak-roots go together.")
        files = self._files()
        if self.ima_log is not None:
            files = evolve(files, further={**files.further, "ima": self.ima_log})
        policy = choose_policy(self.policy)
        references = self._references()
        verifier = Verifier(
            references,
            baselines=[read_baseline(path) for path in self.baselines],
            policy=policy,
            unsafe_unsigned_manifests=self.unsigned,
        )
        evidence, key = files.read(self.bank)
        if self.ak_chain is not None and self.ak_roots is not None:
            chain, roots = read(self.ak_chain, KEY_LIMIT), read(self.ak_roots, KEY_LIMIT)
            with about(self.ak_roots):
                load_certificates(roots, "roots")
            with about(self.ak_chain):
                key = verify_ak_certificate(key, chain, roots)
        return Case(
            files=files,
            evidence=evidence,
            key=key,
            policy=policy,
            manifests=self.manifests,
            references=references,
            verifier=verifier,
            nonce=self.nonce,
            bank=self.bank,
        )

    def _files(self) -> EvidenceFiles:
        parts = {"--log": self.log, "--quote": self.message, "--signature": self.signature, "--ak": self.ak}
        given = [name for name, value in parts.items() if value is not None]
        if self.folder is not None:
            given += [n for n, v in (("--pcrs", self.pcrs), ("--userspace-log", self.userspace_log)) if v is not None]
            if given:
                raise click.UsageError(f"Give either FOLDER or {given[0]} and the like, not both.")
            return EvidenceFiles.of_folder(self.folder)
        missing = [name for name, value in parts.items() if value is None]
        if missing:
            raise click.UsageError(f"Give a FOLDER, or all files: {', '.join(missing)} missing.")
        log, message, signature, ak = (value or "" for value in parts.values())
        further = {} if self.userspace_log is None else {"systemd": self.userspace_log}
        return EvidenceFiles(log=log, message=message, signature=signature, key=ak, pcrs=self.pcrs, further=further)

    def _references(self) -> tuple[ReferenceManifest, ...]:
        if self.unsigned:
            return tuple(unsafe_read_unsigned_manifest(path) for path in self.manifests)
        keys = [read_public_key(path) for path in self.keys]
        return tuple(read_manifest(path, keys, self.min_version) for path in self.manifests)
