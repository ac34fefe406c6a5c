# Sourced by what runs a wheel on a machine that is not this one.
# shellcheck shell=bash

unpacked() { # ARCHITECTURE FOLDER PACKAGES: Debian's packages unpacked in a folder, never configured; kept for the next time
  [ ! -e "$2/unpacked" ] || return 0
  rm -rf "$2" && mkdir -p "$2"
  debootstrap --arch="$1" --foreign --variant=minbase --include="$3" bookworm "$2" >/dev/null
  local package
  for package in "$2"/var/cache/apt/archives/*.deb; do dpkg -x "$package" "$2"; done
  touch "$2/unpacked"
}

installed() { # MACHINE FOLDER WHEEL: a wheel and what it requires, for that machine's Python 3.11
  local tags=() glibc
  for glibc in manylinux2014 manylinux_2_17 manylinux_2_27 manylinux_2_28; do tags+=(--platform "${glibc}_$1"); done
  python3 -m pip install --quiet --target "$2" --only-binary :all: --python-version 3.11 --implementation cp \
    --abi cp311 --abi abi3 --abi none "${tags[@]}" "$3"
}
