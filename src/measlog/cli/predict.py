"""``measlog predict``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click

from measlog.appraisal.argument_tables import load_arguments
from measlog.cli.errors import about, note
from measlog.cli.files import KEY_LIMIT, read, read_log, write, write_below
from measlog.cli.manifests import read_manifest, read_public_key, unsafe_read_unsigned_manifest
from measlog.cli.options import FILE, as_json
from measlog.cli.output import emit
from measlog.errors import PolicyError
from measlog.flatcar.boot import PredictedBoot
from measlog.flatcar.boot import predict as predicted
from measlog.interop.seal import (
    SigningKey,
    State,
    clevis_config,
    cryptenroll_arguments,
    pcrlock_components,
    pcrsig,
    prediction_document,
    states_of,
    tpm2_policy,
)
from measlog.registry import ALGORITHMS_BY_NAME
from measlog.view.compare import boot_page
from measlog.view.render import Page

if TYPE_CHECKING:
    from measlog.flatcar.cmdline import ArgumentModel
    from measlog.reference.manifest import ReferenceManifest

__all__ = ["predict"]


class Registers(click.ParamType[tuple[int, ...]]):
    """Register numbers with commas between them."""

    name = "numbers"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The numbers, or wrong usage."""
        numbers = str(value).split(",")
        if not all(n.isascii() and n.isdigit() and len(n) <= 2 and int(n) < 24 for n in numbers):
            self.fail(f"{str(value)[:80]!r} is not a list of registers such as 4,8,9", param, ctx)
        if len(set(map(int, numbers))) != len(numbers):
            self.fail("a register is named twice", param, ctx)
        return tuple(sorted(map(int, numbers)))


@click.command(
    epilog="Example: measlog predict release.json --manifest-key release.pub --slot a --pcrs 4,8,9 --format cryptenroll"
)
@click.argument("manifest", type=FILE)
@click.option("--manifest-key", "keys", type=FILE, multiple=True, metavar="PEM", help="Verify the manifests with it.")
@click.option("--log", type=FILE, help="A good log of the machine: its platform, Secure Boot state and disk.")
@click.option("--bootloader-manifest", type=FILE, metavar="M", help="The release that shim and GRUB come from.")
@click.option("--secure-boot", type=click.Choice(["on", "off"]), help="Only boots with Secure Boot on, or off.")
@click.option("--slot", type=click.Choice(["a", "b"]), help="Only boots that try this slot.")
@click.option("--first-boot", is_flag=True, help="Only first boots; later ones as well unless given.")
@click.option("--phase", metavar="PATH", help="Only boots of unified images that have come to this phase of systemd's.")
@click.option("--oem-grub-cfg", type=FILE, metavar="F", help="The grub.cfg of the OEM partition.")
@click.option(
    "--argument",
    "words",
    multiple=True,
    metavar="WORD",
    help="A kernel argument that the OEM grub.cfg appends; any number of them.",
)
@click.option(
    "--argument-rules", "rules", type=FILE, metavar="TOML", help="In their place, the rules that such arguments keep."
)
@click.option("--pcrs", type=Registers(), default="4,8,9", show_default=True, help="Registers that are sealed to.")
@click.option("--bank", type=click.Choice(list(ALGORITHMS_BY_NAME)), default="sha256", show_default=True, help="Bank.")
@click.option("--key", type=FILE, metavar="PEM", help="RSA key that signs policies, for pcrsig.")
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Where the form is written; for pcrlock a folder.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "cryptenroll", "clevis", "pcrlock", "tpm2", "pcrsig"]),
    help="In place of tables: the form of another tool.",
)
@as_json
def predict(
    manifest: str,
    keys: tuple[str, ...],
    log: str | None,
    bootloader_manifest: str | None,
    secure_boot: str | None,
    slot: str | None,
    phase: str | None,
    oem_grub_cfg: str | None,
    words: tuple[str, ...],
    rules: str | None,
    pcrs: tuple[int, ...],
    bank: str,
    key: str | None,
    output: str | None,
    form: str | None,
    *,
    first_boot: bool,
    as_json: bool,
) -> None:
    """The registers of boots of MANIFEST's release that have not happened yet.

    A secret that is sealed to several boots opens in each of them.
    """
    if as_json:
        if form not in {None, "json"}:
            raise click.UsageError("--json is --format json.")
        form = "json"
    if (form == "pcrsig") != (key is not None):
        raise click.UsageError("--key goes with --format pcrsig, and pcrsig needs it.")
    if form == "pcrlock" and output is None:
        raise click.UsageError("--format pcrlock writes several files: give a folder with --output.")
    if words and rules is not None:
        raise click.UsageError("Give either --argument or --argument-rules.")
    release = _manifest(manifest, keys)
    loader = None if bootloader_manifest is None else _manifest(bootloader_manifest, keys)
    history = None if log is None else read_log(log)
    script = None if oem_grub_cfg is None else read(oem_grub_cfg, KEY_LIMIT)
    arguments = _arguments(words, rules)
    signer = None if key is None else _signer(key)
    # A secret that is sealed for an update must open after a failed one too: the way back is never left out.
    keeps_way_back = history is not None and slot is not None and form not in {None, "json"}
    if keeps_way_back:
        note(f"the boot of slot {slot} and the way back to the other slot are both sealed to")
    with about(manifest):
        boots = predicted(
            release,
            log=history,
            bootloader=loader,
            secure_boot=None if secure_boot is None else secure_boot == "on",
            slot=None if keeps_way_back else slot,
            first_boot=True if first_boot else None,
            oem_grub_cfg=script,
            arguments=arguments,
            phase=phase,
        )
        if keeps_way_back:
            boots.sort(key=lambda boot: boot.slot != slot)
        made = _made(form, boots, pcrs, bank, signer)
    if made is None:
        emit(Page(parts=tuple(part for boot in boots for part in boot_page(boot, bank=bank).parts)))
    elif isinstance(made, bytes):
        write(output or "-", made)
    else:
        for name, data in made.items():
            write_below(output or ".", name, data)


def _arguments(words: tuple[str, ...], rules: str | None) -> ArgumentModel | tuple[str, ...] | None:
    if rules is None:
        return words or None
    data = read(rules, KEY_LIMIT)
    with about(rules):
        return load_arguments(data)


def _manifest(path: str, keys: tuple[str, ...]) -> ReferenceManifest:
    if keys:
        return read_manifest(path, [read_public_key(key) for key in keys], None)
    note(f"{path}: nobody vouches for this manifest, its signature was not verified (--manifest-key)")
    return unsafe_read_unsigned_manifest(path)


def _signer(path: str) -> SigningKey:
    data = read(path, KEY_LIMIT)
    with about(path):
        return SigningKey.from_pem(data)


def _made(
    form: str | None, boots: list[PredictedBoot], pcrs: tuple[int, ...], bank: str, signer: SigningKey | None
) -> bytes | Mapping[str, bytes] | None:
    """What is written: one file, several by name, or nothing but tables."""
    if not boots:
        raise PolicyError("no boot of this kind is predicted")
    if form is None:
        return None
    if form == "json":
        return _json(prediction_document(boots, banks=(bank,)))
    if form == "pcrlock":
        return pcrlock_components(boots, pcrs, banks=(bank,))
    states = states_of(boots, pcrs, bank)
    if signer is not None:
        return pcrsig(states, signer)
    return _FORMS[form](states)


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=True).encode() + b"\n"


def _cryptenroll(states: tuple[State, ...]) -> bytes:
    return "".join(f"{argument}\n" for argument in cryptenroll_arguments(states)).encode()


def _clevis(states: tuple[State, ...]) -> bytes:
    pin, configuration = clevis_config(states)
    return f"{pin} {shlex.quote(configuration)}\n".encode()


def _tpm2(states: tuple[State, ...]) -> bytes:
    policy = tpm2_policy(states)
    branches = [
        {
            "boots": list(branch.state.names),
            "selection": branch.selection,
            "values": branch.values.hex(),
            "digest": branch.digest.hex(),
            "policy_or": [[digest.hex() for digest in group] for group in policy.steps(index)],
        }
        for index, branch in enumerate(policy.branches)
    ]
    return _json(
        {
            "measlog": "predict-tpm2/1",
            "policy_hash": policy.policy_hash,
            "policy": policy.digest.hex(),
            "branches": branches,
        }
    )


_FORMS: Mapping[str, Callable[[tuple[State, ...]], bytes]] = {
    "cryptenroll": _cryptenroll,
    "clevis": _clevis,
    "tpm2": _tpm2,
}
