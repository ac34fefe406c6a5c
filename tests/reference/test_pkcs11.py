"""Signing on a token, tried with SoftHSM in a process of its own: its library reads its configuration once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from measlog.errors import ManifestError, MissingExtraError
from measlog.reference import SignedManifest
from measlog.reference.pkcs11 import Pkcs11Signer
from tests.flatcar.images import tool
from tests.reference.test_manifest import make_manifest
from tests.reference.test_signing import NOW

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so")
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from measlog.errors import ManifestError
from measlog.reference.pkcs11 import Pkcs11Signer
from tests.reference.test_manifest import make_manifest
module, label, pin = sys.argv[1:]
try:
    with Pkcs11Signer(module=module, token="measlog", label=label, pin=pin) as signer:
        sys.stdout.buffer.write(make_manifest().sign(signer))
except ManifestError as error:
    sys.exit(f"refused: {error}")
"""


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str], dict[str, bytes]]:
    """A SoftHSM token with a key on each curve: its module, the environment for it, public keys by label."""
    pytest.importorskip("pkcs11")
    module = next((path for path in MODULES if Path(path).exists()), None)
    util = tool("softhsm2-util")
    if module is None:
        pytest.skip("SoftHSM's library is not installed here")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
    environment = {**os.environ, "SOFTHSM2_CONF": str(folder / "softhsm2.conf")}

    def run(*words: str) -> None:
        subprocess.run([util, *words], env=environment, check=True, capture_output=True, timeout=60)

    run("--init-token", "--free", "--label", "measlog", "--pin", "1234", "--so-pin", "1234")
    public = {}
    curves: dict[str, ec.EllipticCurve] = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
    for number, (label, curve) in enumerate(curves.items(), start=1):
        key = ec.generate_private_key(curve)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / "key").write_bytes(pem)
        run(
            "--import",
            str(folder / "key"),
            "--token",
            "measlog",
            "--label",
            label,
            "--id",
            f"0{number}",
            "--pin",
            "1234",
        )
        public[label] = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    return module, environment, public


def signed(
    token: tuple[str, dict[str, str], dict[str, bytes]], label: str, pin: str = "1234"
) -> subprocess.CompletedProcess[bytes]:
    line = [sys.executable, "-c", PROGRAM, token[0], label, pin]
    return subprocess.run(line, env=token[1], cwd=ROOT, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize("label", ["p256", "p384"])
def test_a_token_signs(label: str, token: tuple[str, dict[str, str], dict[str, bytes]]) -> None:
    done = signed(token, label)
    assert done.returncode == 0, done.stderr
    manifest = SignedManifest.from_bytes(done.stdout).verify(keys=[token[2][label]], now=NOW)
    assert manifest == make_manifest()
    other = token[2]["p384" if label == "p256" else "p256"]
    with pytest.raises(ManifestError, match="signed by none"):
        SignedManifest.from_bytes(done.stdout).verify(keys=[other], now=NOW)


@pytest.mark.parametrize(
    ("label", "pin", "message"),
    [("none", "1234", b"'none'"), ("p256", "0000", b"'p256'"), ("p521", "1234", b"another kind")],
)
def test_what_is_not_there_is_refused(
    label: str, pin: str, message: bytes, token: tuple[str, dict[str, str], dict[str, bytes]]
) -> None:
    done = signed(token, label, pin)
    assert done.returncode == 1
    assert b"refused: " in done.stderr
    assert message in done.stderr


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(MissingExtraError, match=r"measlog\[pkcs11\]"):
        Pkcs11Signer(module="", token="", label="", pin="")
