"""Builds of GRUB, as data: which modules are built in, and where their measurements differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from attrs import field, frozen
from attrs.validators import and_, ge, in_, instance_of

__all__ = ["BUILDS", "COMMAND_MODULES", "DEBIAN_2_06", "FLATCAR_2_12", "GrubBuild"]

_ALWAYS = frozenset({"kernel", "normal"})


def _modules(names: Iterable[str]) -> frozenset[str]:
    return _ALWAYS | frozenset(names)


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(names)


@frozen(kw_only=True)
class GrubBuild:
    r"""One build.

    ``modules`` are those built in. ``command_prefix`` and ``cmdline_prefix`` stand before the text in an event's data
    and are in no digest; ``hash_nul`` is True for old builds that hash the NUL after a command's text.
    ``home_config``: a ``grub.cfg`` beside GRUB is looked for first (opened once to see, once to read).
    ``keep_hex_escapes``: ``\xHH`` passes through expansion and the kernel command line unchanged.
    ``image_measurements``: how often shim measures the kernel in a boot with Secure Boot; ``linuxefi`` counts one
    more where that module is separate and built in. ``lists``: the files that setting ``prefix`` makes GRUB read.
    ``refused_modules_measured``: with Secure Boot on, a ``.mod`` file is opened (and measured) before it is refused.
    ``default_by_id``: ``default`` and ``fallback`` match ids, then titles, then numbers; otherwise numbers come first.
    ``entry_unsets_default``: a running entry does not see ``default``.
    ``arm64``: how it starts a kernel on arm64 is known; see :func:`measlog.flatcar.grub.loader.start`.
    """

    name: str = field(validator=instance_of(str))
    version: str = field(validator=instance_of(str))
    modules: frozenset[str] = field(converter=_modules)
    command_prefix: bytes = field(default=b"grub_cmd: ", validator=instance_of(bytes))
    cmdline_prefix: bytes = field(default=b"kernel_cmdline: ", validator=instance_of(bytes))
    hash_nul: bool = field(default=False, validator=instance_of(bool))
    home_config: bool = field(default=False, validator=instance_of(bool))
    keep_hex_escapes: bool = field(default=False, validator=instance_of(bool))
    image_measurements: int = field(default=1, validator=and_(instance_of(int), ge(0)))
    cmdline_slack: int = field(default=0, validator=in_((0, 1)))
    lists: tuple[str, ...] = field(default=("command.lst", "fs.lst", "crypto.lst", "terminal.lst"), converter=_names)
    refused_modules_measured: bool = field(default=False, validator=instance_of(bool))
    default_by_id: bool = field(default=False, validator=instance_of(bool))
    entry_unsets_default: bool = field(default=True, validator=instance_of(bool))
    arm64: bool = field(default=False, validator=instance_of(bool))
    features: tuple[str, ...] = field(default=(), converter=_names)
    lockdown_variables: tuple[str, ...] = field(default=(), converter=_names)


_FEATURES = (
    "feature_chainloader_bpb", "feature_ntldr", "feature_platform_search_hint", "feature_default_font_path",
    "feature_all_video_module", "feature_menuentry_id", "feature_menuentry_options", "feature_200_final",
    "feature_nativedisk_cmd", "feature_timeout_style",
)  # fmt: skip

# build_library/grub_install.sh of Flatcar's scripts, x86_64-efi, and what those modules depend on.
FLATCAR_2_12 = GrubBuild(
    name="flatcar-2.12",
    version="2.12",
    modules={
        "bitmap", "bitmap_scale", "boot", "btrfs", "bufio", "configfile", "crypto", "datetime", "echo", "efi_gop",
        "efinet", "extcmd", "fat", "font", "fshelp", "gcry_rsa", "gcry_sha256", "gettext", "gptprio", "gzio", "http",
        "linux", "lzopio", "memdisk", "mpi", "net", "normal", "part_gpt", "pgp", "priority_queue", "raid6rec", "read",
        "search", "search_fs_file", "search_fs_uuid", "search_label", "search_part_label", "serial", "tar", "terminal",
        "test", "tftp", "tpm", "video", "video_fb", "xzio", "zstd",
    },
    home_config=True,
    keep_hex_escapes=True,
    default_by_id=True,
    entry_unsets_default=False,
    features=(*_FEATURES, "feature_search_cryptodisk_only"),
    lockdown_variables=("lockdown", "shim_lock"),
)  # fmt: skip
"""GRUB 2.12 with the Red Hat and Flatcar patches, as Flatcar's images carry it for EFI."""

DEBIAN_2_06 = GrubBuild(
    name="debian-2.06",
    version="2.06",
    modules={
        "boot", "btrfs", "configfile", "echo", "efi_gop", "fat", "linux", "memdisk", "normal", "part_gpt", "read",
        "search", "search_fs_file", "search_fs_uuid", "search_label", "serial", "tar", "terminal", "test", "tpm",
        "xzio",
    },
    cmdline_slack=1,
    refused_modules_measured=True,
    arm64=True,
    features=_FEATURES,
    lockdown_variables=("lockdown", "shim_lock"),
)  # fmt: skip
"""GRUB 2.06 of Debian 12; an image made with grub-mkimage has the modules that it names."""

BUILDS: Mapping[str, GrubBuild] = MappingProxyType({b.name: b for b in (FLATCAR_2_12, DEBIAN_2_06)})


def _table(**modules: str) -> Mapping[bytes, frozenset[str]]:
    made: dict[bytes, frozenset[str]] = {}
    for module, names in modules.items():
        for name in names.split():
            made[name.encode()] = made.get(name.encode(), frozenset()) | {module}
    return MappingProxyType(made)


COMMAND_MODULES: Mapping[bytes, frozenset[str]] = _table(
    kernel="set unset ls insmod",
    normal="menuentry submenu break continue shift setparams return export clear normal normal_exit authenticate",
    boot="boot",
    search="search",
    search_fs_uuid="search.fs_uuid",
    search_fs_file="search.file",
    search_label="search.fs_label",
    search_part_label="search.part_label",
    search_part_uuid="search.part_uuid",
    configfile="configfile source . extract_entries_source extract_entries_configfile",
    test="[ test",
    echo="echo",
    true="true false",
    read="read",
    gptprio="gptprio.next",
    linux="linux initrd",
    linuxefi="linuxefi initrdefi",
    linux16="linux16 initrd16",
    chain="chainloader",
    cat="cat",
    minicmd="cat dump exit help lsmod rmmod",
    halt="halt",
    reboot="reboot",
    sleep="sleep",
    eval="eval",
    regexp="regexp",
    loadenv="load_env save_env list_env",
    probe="probe",
    getenv="getenv",
    serial="serial",
    terminal="terminal_input terminal_output",
    terminfo="terminfo",
    net="net_bootp net_bootp6 net_dhcp net_ls_addr net_ls_cards net_add_addr net_del_addr net_add_route "
    "net_del_route net_set_vlan net_ls_routes net_nslookup net_add_dns net_del_dns net_ls_dns net_get_dhcp_option "
    "net_ipv6_autoconf",
    pgp="verify_detached trust distrust list_trusted",
    smbios="smbios",
    font="loadfont lsfonts",
    gettext="gettext",
    videoinfo="videoinfo vbeinfo",
    background_image="background_image background_color",
    keystatus="keystatus",
    loopback="loopback",
    hashsum="hashsum md5sum sha1sum sha256sum sha512sum crc",
    date="date",
    efifwsetup="fwsetup",
    lsefi="lsefi",
    lsefisystab="lsefisystab",
    hexdump="hexdump",
)
"""Which modules bring a command; any of them will do."""
