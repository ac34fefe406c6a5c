# The steps of .ci/run.
# shellcheck shell=bash disable=SC2154  # root is set by .ci/run

step() { # NAME COMMAND...: run it, say how long it took, end everything where it fails
  local name=$1 began=$SECONDS
  shift
  echo
  echo "=== $name"
  # A plain call, so that errexit holds inside functions.
  trap 'echo "=== FAILED: '"${name//\'/}"' (after $((SECONDS - '"$began"')) s)" >&2' ERR
  set -E
  "$@"
  set +E
  trap - ERR
  echo "=== ok: $name ($((SECONDS - began)) s)"
}

system_packages() {
  local missing=()
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
  python3 -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("include"), "Python.h").stat()' 2>/dev/null ||
    missing+=(python3-dev)
  command -v gcc >/dev/null || missing+=(gcc libc6-dev)
  command -v git >/dev/null || missing+=(git)
  command -v debootstrap >/dev/null || missing+=(debootstrap)
  [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
  [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
  command -v cc >/dev/null || missing+=(gcc libc6-dev)
  python3 -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || missing+=(python3-dev)
  apt-get -q update
  if [ ${#missing[@]} -gt 0 ]; then
    apt-get -q -y --no-install-recommends install "${missing[@]}"
  fi
}

readme_commands() { # FOLDER: the first two sh blocks, one line each
  mkdir -p "$1"
  python3 "$root/.ci/readme_commands.py" "$root/README.md" "$1"
}

fresh_clone() { # FOLDER
  if [ -n "$(git -C "$root" status --porcelain)" ]; then
    echo "note: the work tree is not clean; a clone has only what is committed"
  fi
  git clone --quiet --no-local "$root" "$1"
  git -C "$1" log -1 --format='%h %s'
}

network_settings() { # the environment by which this machine reaches package indexes, one NAME=VALUE a line
  env | grep -E '^(PIP_[A-Z_]+|[A-Za-z]+_(proxy|PROXY)|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|GIT_SSL_CAINFO)=' || true
  python3 "$root/.ci/pip_settings.py" index
}

in_clean() { # FOLDER COMMAND: in FOLDER/measlog, with the home FOLDER/home
  local settings=()
  mapfile -t settings < <(network_settings)
  (cd "$1/measlog" && env -i HOME="$1/home" PATH="$PATH" LANG=C.UTF-8 "${settings[@]}" bash -c "$2")
}

flipped() { # FOLDER DEFECT COMMAND: the command must fail, and for that reason
  local output status=0
  "$1/measlog/.venv/bin/python" "$root/.ci/flip.py" "$2" "$1/measlog"
  output=$(in_clean "$1" "$3" 2>&1) || status=$?
  git -C "$1/measlog" checkout --quiet -- fixtures
  printf '%s\n' "$output" | grep -v '^  ' | tail -n 12
  if [ "$status" -eq 0 ]; then
    echo "the command did not notice"
    return 1
  fi
  if ! grep -q 'EXPECTED affirming' <<<"$output"; then
    echo "it failed for another reason"
    return 1
  fi
  echo "refused, exit status $status"
}

debian_root() { # FOLDER CACHE: a minimal root with what the README asks for, the clone in it, and a user
  local archive="$2/debian-12.tar" mirror
  if [ -e "$archive" ] && [ -n "$(find "$archive" -mtime -14)" ]; then
    mkdir -p "$1"
    tar -C "$1" --numeric-owner -xpf "$archive"
  else
    mirror=$(apt-get indextargets --format '$(CREATED_BY) $(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)' |
      awk '$1 == "Packages" && $2 == "Debian" && $3 == "bookworm" && $4 == "main" { print $5; exit }')
    debootstrap --variant=minbase --include=python3,python3-venv,git,ca-certificates bookworm "$1" \
      ${mirror:+"$mirror"} >"$work/debootstrap.log" 2>&1 || { tail -n 20 "$work/debootstrap.log"; return 1; }
    rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/*
    mkdir -p "$2"
    tar -C "$1" --numeric-owner --one-file-system -cpf "$archive.new" .
    mv "$archive.new" "$archive"
  fi
  chroot "$1" /usr/sbin/useradd --create-home --shell /bin/bash visitor
  machine_settings "$1"
  git clone --quiet --no-local "$root" "$1/home/visitor/measlog"
  chroot "$1" chown -R visitor:visitor /home/visitor
}

machine_settings() { # FOLDER: name resolution, certificates and pip's files, as this machine has them
  local file
  cp -L /etc/resolv.conf /etc/hosts "$1/etc/"
  cp -L /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/ca-certificates.crt"
  python3 "$root/.ci/pip_settings.py" files | while read -r file; do
    mkdir -p "$1$(dirname "$file")"
    if [ -d "$file" ]; then
      mkdir -p "$1$file"
    else
      install -m 644 "$file" "$1$file"
    fi
  done
}

in_debian() { # FOLDER COMMAND: as the user of that root, in a mount namespace of its own, gone when it ends
  local settings=() folders=()
  mapfile -t settings < <(network_settings)
  mapfile -t folders < <(python3 "$root/.ci/pip_settings.py" files | while read -r word; do if [ -d "$word" ]; then echo "$word"; fi; done)
  # shellcheck disable=SC2016  # expanded by the inner shell
  unshare --mount --propagation private bash -euc '
    target=$1 command=$2
    shift 2
    mount -t proc proc "$target/proc"
    mkdir -p "$target/dev/shm"
    mount -t tmpfs -o mode=1777 tmpfs "$target/dev/shm"
    while [ "$1" != -- ]; do
      mount --bind "$1" "$target$1"
      shift
    done
    shift
    exec chroot --userspec=visitor:visitor "$target" /usr/bin/env -i HOME=/home/visitor USER=visitor LANG=C.UTF-8 \
      PATH=/usr/local/bin:/usr/bin:/bin "$@" bash -c "cd ~/measlog && $command"
  ' in_debian "$1" "$2" "${folders[@]}" -- "${settings[@]}"
}

environment() { # FOLDER: the package as it would be released, not the checkout, with the tools
  python3 -m venv "$1"
  "$1/bin/pip" install --quiet "$root[dev]"
  rm -rf "$root/build" "$root"/src/*.egg-info
}

installed_package() { # VENV: from a folder that has nothing of the checkout
  (cd / && "$1/bin/measlog" --version && "$1/bin/python" -I -c '
import importlib.resources, json, measlog, pathlib
place = pathlib.Path(measlog.__file__)
assert "site-packages" in place.parts, place
assert (place.parent / "py.typed").is_file()
for schema in (importlib.resources.files("measlog") / "schemas").iterdir():
    json.loads(schema.read_text())
')
}

documentation() { # FOLDER: the site without a warning, and no link in it that leads nowhere; its code runs with the tests
  sphinx-build -W --keep-going -n -q -d "$1/doctrees" -b html docs "$1/html"
  python .ci/links.py "$1/html"
}

compiled_lanes() { # VENV: the package was built by a compiler, so that its tests are of the compiled lanes
  (cd / && "$1/bin/python" -I -c '
from measlog import lanes
print(*lanes.engines())
assert lanes.engine() != "hashlib", "the lanes were not compiled"
')
}

engine_packages() { # VENV: Java for Spark, and the extras
  command -v java >/dev/null || apt-get -q -y --no-install-recommends install default-jre-headless
  "$1/bin/pip" install --quiet "$root[dask,duckdb,polars,ray,spark]"
  rm -rf "$root/build" "$root"/src/*.egg-info
}

wheels() { # FOLDER: built as released, for this machine; the other machines' wheels: docs/packaging.md
  local tools="$1/tools/bin" lanes='import measlog.lanes as lanes; assert len(lanes.engines()) > 1, lanes.engines()'
  python3 -m venv "$1/tools"
  "$tools/pip" install --quiet --constraint "$root/release/constraints.txt" "$root[release]"
  rm -rf "$root/build" "$root"/src/*.egg-info
  "$tools/python" -m release.build -o "$1/dist" --target "linux-$(uname -m)"
  "$tools/python" -m release.check "$1/dist" --again
  # From the source archive, by this machine's compiler.
  python3 -m venv "$1/source"
  "$1/source/bin/pip" install --quiet "$1"/dist/*.tar.gz
  (cd / && "$1/source/bin/python" -I -c "$lanes")
  "$tools/python" -m release.matrix "$1/dist"
}

lab_packages() {
  python -m fixtures.lab packages --install
  # What tests compare with, so that none is skipped for lack of a judge.
  apt-get -q -y --no-install-recommends install btrfs-progs erofs-utils gnupg grub-efi-amd64-signed grub-emu lbzip2 \
    openssl osslsigncode pesign qemu-utils softhsm2 squashfs-tools xfsprogs
}

tests() { # REPORT ARGUMENTS...: pytest; a test skipped for lack of the shared data is a failure where the data is there
  local report=$1
  shift
  python -m pytest -p no:cacheprovider -q -rs --durations=10 --junitxml="$report" "$@"
  python "$root/.ci/count.py" --no-skips-for-shared "$report"
}

env_tests() { # NAME=VALUE REPORT ARGUMENTS...: tests, with a variable set
  local setting=$1
  shift
  local -x "${setting?}"
  tests "$@"
}

coverage() { # REPORT: of all tests together; the lab's run parts of the GRUB engine that no other test does
  python -m coverage report
  python -m coverage json -q -o "$1"
  python "$root/.ci/covered.py" "$1"
}
