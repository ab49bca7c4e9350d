"""Path B: UEFI firmware starts the EFI file, from a disk and from a CD, with and without Secure Boot."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from efi_files import Loader, add_conf, variant

from artefacts import debian as packages
from init.firmware.efivars import POOLBOOT
from loader import esp, sign, uki
from loader.make import Wishes
from qemu import images, layouts, ovmf, zfs_images
from qemu.machine import Disk, Machine
from qemu.workshop import Made

pytestmark = pytest.mark.firmware

Firmwares = Callable[..., Machine]
BOOT_SECONDS = 400


class Keys(NamedTuple):
    """The owner's key, and the EFI file that is signed with it."""

    key: Path
    certificate: Path
    signed: Loader


@pytest.fixture(scope="module")
def keys(loader: Loader, tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    request = ["openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"]
    subject = ["-subj", "/CN=The owner of this machine/", "-keyout", key, "-out", certificate]
    subprocess.run([*request, *subject], check=True, capture_output=True)
    return Keys(key, certificate, variant(loader, folder, Wishes(key=key, certificate=certificate)))


def layout(made: Made, name: str) -> list[Path]:
    first, last = layouts.BTRFS[name]
    return made.disks[first:last]


def run_in(guest: Machine, line: str) -> str:
    """Run a command at the root prompt and return what it printed; it has to succeed."""
    guest.send(f"{line}; echo status-$?-\n")
    found = guest.expect(r"(?s)(.*?)^status-(\d+)-$", 60)
    assert found[2] == "0", found[1]
    return found[1]


def test_the_sizes_are_within_budget(loader: Loader) -> None:
    parts = uki.sections(loader.efi)
    assert {".linux", ".initrd", ".cmdline", ".osrel", ".uname", ".sbat"} <= set(parts)
    assert len(parts[".linux"]) <= 4 << 20
    assert loader.efi.stat().st_size <= 9 << 20
    assert b"ID=poolboot" in parts[".osrel"]
    assert parts[".sbat"].startswith(b"sbat,1,")
    assert b"poolboot,1," in parts[".sbat"]


def test_the_firmware_boots_debian_from_one_file(
    firmware: Firmwares, loader: Loader, debian: Made, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """No -kernel, no knobs, 384 MiB: firmware, loader.img, our PID 1, kexec, Debian's login, and what bootctl shows."""
    tools = bootctl(request.config.getoption("--suite"), tmp_path)
    with firmware([loader.image, *debian.disks, Disk(tools, readonly=True)], memory=384) as guest:
        guest.expect(r"poolboot: pool btrfs debian \S+ members 3/3", 120)
        guest.expect(r"poolboot: entry 1 .*Debian GNU/Linux", 60)
        guest.expect(r"poolboot: booting Debian.* in 3 s; any key stops")
        guest.expect(r"poolboot: booting .* kernel=/boot/vmlinuz-", 30)
        guest.expect(images.MARKER, BOOT_SECONDS)
        assert "poolboot: error" not in guest.console
        images.log_in(guest, BOOT_SECONDS)
        run_in(guest, "tar -C /root -xf /dev/vde")
        status = run_in(guest, "/root/bootctl status --no-pager --quiet 2>&1 || true")
        assert "Product: poolboot 0" in status
        assert "Boot loader sets ESP information" in status
        assert "debian" in run_in(guest, "tr -d '\\0' </sys/firmware/efi/efivars/LoaderEntrySelected-* && echo").lower()


def bootctl(suite: str, folder: Path) -> Path:
    """Debian's bootctl in a tar; a minimal system has none."""
    (program,) = packages.packages(suite, ["systemd-boot"], dependencies=False).glob("usr/bin/bootctl")
    target = folder / "bootctl.tar"
    with tarfile.open(target, "w") as tar:
        tar.add(program, "bootctl")
    return target


def test_sixty_megabytes_boot_in_a_small_machine(firmware: Firmwares, loader: Loader) -> None:
    made = layouts.large()
    with firmware([loader.image, *made.disks], memory=384) as guest:
        guest.expect(r"poolboot: booting .* kernel=/boot/vmlinuz-", 180)
        guest.expect(layouts.MARKER, 180)


@pytest.mark.parametrize("medium", ["disk", "disc"])
def test_debian_on_a_zfs_mirror_reaches_its_login(
    firmware: Firmwares, loader: Loader, zfs_debian: Made, medium: str
) -> None:
    """From loader.img, and from the ISO in a CD drive, then with one disk of the mirror gone."""
    first, last = zfs_images.POOLS["mirror"]
    disks = zfs_debian.disks[first:last]
    if medium == "disk":
        machine, state, health = firmware([loader.image, *disks]), "2/2", "ONLINE"
    else:
        drive = f"if=none,id=cd,media=cdrom,readonly=on,file={loader.iso}"
        options = ["-drive", drive, "-device", "ide-cd,drive=cd,bus=ide.0"]
        machine, state, health = firmware(disks[1:], options=options), "1/2", "DEGRADED"
    with machine as guest:
        guest.expect(rf"poolboot: pool zfs rpool-mirror \S+ members {state}", 180)
        booting = guest.expect(r"poolboot: booting .* kernel=/boot/vmlinuz-\S+ .*cmdline=(.*)", 60)[1]
        assert "root=ZFS=rpool-mirror/ROOT/debian" in booting.split()
        guest.expect(images.MARKER, BOOT_SECONDS)
        assert "poolboot: error" not in guest.console
        images.log_in(guest, BOOT_SECONDS)
        assert run_in(guest, "findmnt -rno FSTYPE,SOURCE /").strip().endswith("zfs rpool-mirror/ROOT/debian")
        assert f"rpool-mirror\t{health}" in run_in(guest, "zpool list -Ho name,health")


def test_the_iso_on_a_usb_stick_boots_debian_on_btrfs(firmware: Firmwares, loader: Loader, debian: Made) -> None:
    """Copied onto a stick, the ISO is a disk with an ESP; one disk of the RAID1 is gone."""
    with firmware([Disk(loader.iso, "usb"), *debian.disks[:2]]) as guest:
        guest.expect(r"poolboot: pool btrfs debian \S+ members 2/3", 180)
        guest.expect(r"poolboot: booting Debian.* in 3 s; any key stops", 60)
        guest.expect(images.MARKER, BOOT_SECONDS)
        images.log_in(guest, BOOT_SECONDS)
        assert run_in(guest, "findmnt -rno FSTYPE /").strip().endswith("btrfs")


def test_knobs_of_the_firmwares_side_count(
    firmware: Firmwares, loader: Loader, btrfs_layouts: Made, tmp_path: Path
) -> None:
    """poolboot.conf beside the EFI file, and on top of it an EFI variable."""
    image = tmp_path / "loader.img"
    shutil.copyfile(loader.image, image)
    add_conf(image, '# of this machine\ntimeout=30\npoolboot.handover=none\nappend="one two"\nnonsense=1\n')
    store = ovmf.with_variables({("Knobs", POOLBOOT): b"timeout=0 kernel=/etc/os-release"}, tmp_path / "vars.fd")
    with firmware([image, *layout(btrfs_layouts, "snapshot")], store) as guest:
        guest.expect(r"poolboot: knobs from poolboot.conf: poolboot.timeout=30 ", 120)
        guest.expect(r"poolboot: knobs from EFI variable Knobs: poolboot.timeout=0 ")
        guest.expect(r"poolboot: warning: unknown knob poolboot.nonsense")
        guest.expect(r"poolboot: would boot .* one two", 60)
        guest.expect(r"poolboot> ", 30)
        # What is no kernel is refused by both ways of handing over, each with its reason.
        guest.send("boot 1\n")
        guest.expect(r"poolboot: handover by kexec is not possible: .*/etc/os-release", 30)
        guest.expect(r"poolboot: handover by firmware is not possible: /etc/os-release is no EFI program", 30)


def test_secure_boot_refuses_an_unsigned_and_a_tampered_file(
    firmware: Firmwares, loader: Loader, keys: Keys, tmp_path: Path
) -> None:
    tampered, bad = tmp_path / "tampered.efi", tmp_path / "tampered.img"
    data = bytearray(keys.signed.efi.read_bytes())
    data[len(data) // 2] ^= 1
    tampered.write_bytes(data)
    esp.disk({"EFI/BOOT/BOOTX64.EFI": tampered}, bad, tmp_path / "log")
    store = ovmf.enrolled(keys.certificate, tmp_path / "vars.fd")
    for image in (loader.image, bad):
        with firmware([image], store) as guest:
            guest.expect(r"Access Denied|Security Violation", 120)
            guest.expect(r"No bootable option or device", 120)
            assert "poolboot: " not in guest.console


def test_secure_boot_boots_what_is_signed_all_the_way(
    firmware: Firmwares, keys: Keys, btrfs_layouts: Made, tmp_path: Path
) -> None:
    """The owner trusts Debian's kernels, too: every signature is checked, and the end is locked down."""
    kernel = tmp_path / "vmlinuz"
    shutil.copyfile(packages.kernel("bookworm").vmlinuz, kernel)
    signature, signer = tmp_path / "signature", tmp_path / "signer.pem"
    subprocess.run(["sbattach", "--detach", signature, kernel], check=True, capture_output=True)
    certificates = ["openssl", "pkcs7", "-inform", "DER", "-in", signature, "-print_certs", "-out", signer]
    subprocess.run(certificates, check=True)
    store = ovmf.enrolled(keys.certificate, tmp_path / "vars.fd", signer)
    with firmware([keys.signed.image, *layout(btrfs_layouts, "snapshot")], store) as guest:
        guest.expect(r"poolboot: Secure Boot is on", 180)
        guest.expect(r"poolboot: jumping after ", 60)
        guest.expect(r"Kernel is locked down from EFI Secure Boot", 60)
        guest.expect(layouts.MARKER, 180)


def test_secure_boot_and_a_kernel_that_nobody_trusts(
    firmware: Firmwares, keys: Keys, btrfs_layouts: Made, tmp_path: Path
) -> None:
    """kexec refuses it and the reason is told; so does the firmware, and after three times we ask it no more."""
    image, target = tmp_path / "loader.img", tmp_path / "vars.fd"
    shutil.copyfile(keys.signed.image, image)
    add_conf(image, "timeout=0\n")
    store = ovmf.enrolled(keys.certificate, target)._replace(keep=True)
    disks = [Disk(image, snapshot=False), *layout(btrfs_layouts, "snapshot")]
    with firmware(disks, store, reboots=True) as guest:
        for _ in range(3):
            guest.expect(r"poolboot: Secure Boot is on", 180)
            guest.expect(r"poolboot: handover by kexec is not possible: kexec_file_load of /boot/vmlinuz-\S+: E", 60)
            guest.expect(r"poolboot: the firmware starts Boot[0-9A-F]{4} next", 120)
        guest.expect(r"poolboot: handover by firmware is not possible: the firmware was told 3 times", 180)
        guest.expect(r"poolboot: handover by switch_root is not tried: Secure Boot is on, and the signed command line ")
        guest.expect(r"poolboot: error: none of the entries could be booted", 60)
        guest.expect(r"poolboot> ", 30)
        assert layouts.MARKER not in guest.console


# Each line is one harmless word; joined and parsed they were five knobs.
QUOTES = (
    'timeout="3\n'
    'entry="x root=LABEL=evil poolboot.append-initrd=esp:/evil poolboot.cmdline=init=/bin/sh poolboot.debug="\n'
)


def test_secure_boot_and_what_nobody_has_signed(
    firmware: Firmwares, loader: Loader, keys: Keys, btrfs_layouts: Made, tmp_path: Path
) -> None:
    """poolboot.conf past its list by a quote, knobs that are typed, words behind an entry: nothing of it counts."""
    wishes = Wishes(cmdline="poolboot.handover=kexec poolboot.wait=8", key=keys.key, certificate=keys.certificate)
    image = variant(loader, tmp_path, wishes).image
    add_conf(image, f"{QUOTES}timeout=0\nhandover=switch_root\nwait=0\nroot=LABEL=snapshot\n")
    store = ovmf.enrolled(keys.certificate, tmp_path / "vars.fd")
    with firmware([image, *layout(btrfs_layouts, "snapshot")], store) as guest:
        guest.expect(r"poolboot: knobs from poolboot.conf: poolboot.timeout=0$", 180)
        guest.expect(r'poolboot: warning: poolboot.conf: timeout="3 does not count: it is no single knob')
        guest.expect(r"poolboot: warning: poolboot.conf: poolboot.handover does not count while Secure Boot is on")
        guest.expect(r"poolboot: warning: poolboot.conf: root only leaves out pools while Secure Boot is on")
        guest.expect(
            r"poolboot: warning: poolboot.conf: poolboot.wait=0 does not count: the signed command line states"
        )
        guest.expect(r"poolboot: booting .* cmdline=(?!.*/bin/sh)", 60)
        guest.expect(r"poolboot: error: .*kexec_file_load of /boot/vmlinuz-\S+: E", 60)
        guest.expect(r"poolboot> ", 60)
        for line, answer in (
            ("boot 1 init=/bin/sh", r"^boot: Secure Boot is on, and nobody has signed what is typed here"),
            ("retry poolboot.append-initrd=esp:/evil", r"^retry: typed: poolboot.append-initrd does not count"),
            ("retry poolboot.handover=switch_root", r"^retry: typed: poolboot.handover does not count"),
            ("retry poolboot.wait=1", r"^retry: typed: poolboot.wait=1 does not count: the signed command line"),
            ("retry poolboot.lock=editor", r"^retry: poolboot.lock is not for typing"),
        ):
            guest.send(f"{line}\n")
            guest.expect(answer, 30)
            guest.expect(r"poolboot> ", 30)
        guest.send("menu\n")
        guest.expect(r"A number selects", 30)
        guest.send("e")
        guest.expect(r"Secure Boot is on, and nobody has signed what is typed here", 30)
        assert "cmdline> " not in guest.console


@pytest.mark.parametrize("tampered", [False, True], ids=["signed", "tampered"])
def test_secure_boot_starts_unified_images_whole_or_not_at_all(
    firmware: Firmwares, loader: Loader, keys: Keys, btrfs_layouts: Made, tmp_path: Path, tampered: bool
) -> None:
    """The owner's own image, on the ESP beside poolboot's, with an addon that nobody has signed; and the same image
    with another command line in it."""
    whole, addon = tmp_path / "whole.efi", tmp_path / "evil.efi"
    parts = uki.Parts(packages.kernel("bookworm").vmlinuz, layouts.initrd(), "6.1")
    uki.make(parts, "console=ttyS0 root=LABEL=snapshot ro word=signed", whole, tmp_path / "log")
    uki.make(parts, "root=LABEL=snapshot word=evil", addon, tmp_path / "log")
    sign.sign(whole, keys.key, keys.certificate, tmp_path / "log")
    if tampered:
        data = whole.read_bytes()
        assert data.count(b"word=signed") == 1
        whole.write_bytes(data.replace(b"word=signed", b"init=/evil1"))
    knobs = Wishes(cmdline="poolboot.entry=whole.efi", key=keys.key, certificate=keys.certificate)
    made, image = variant(loader, tmp_path, knobs), tmp_path / "disk.img"
    files = {
        "EFI/BOOT/BOOTX64.EFI": made.efi,
        "EFI/Linux/whole.efi": whole,
        "EFI/Linux/whole.efi.extra.d/evil.addon.efi": addon,
    }
    esp.disk(files, image, tmp_path / "log", 160 << 20)
    add_conf(image, "timeout=0\n")
    store = ovmf.enrolled(keys.certificate, tmp_path / "vars.fd")._replace(keep=True)
    disks = [Disk(image, snapshot=False), *layout(btrfs_layouts, "snapshot")]
    with firmware(disks, store, reboots=True) as guest:
        for _ in range(3 if tampered else 1):
            guest.expect(r"poolboot: Secure Boot is on", 180)
            guest.expect(r"poolboot: booting .* kernel=/EFI/Linux/whole.efi initrd=its-own cmdline=its-own", 60)
            guest.expect(r"poolboot: handover by kexec is not possible: .*unified image", 30)
            guest.expect(r"poolboot: the firmware starts Boot\w{4} next: /EFI/Linux/whole.efi on \S+, whole", 60)
        if tampered:
            guest.expect(r"poolboot: handover by firmware is not possible: the firmware was told 3 times", 180)
            assert layouts.MARKER not in guest.console
        else:
            guest.expect(layouts.MARKER, 180)
            booted = guest.expect("booted with: (.*)")[1]
            assert "word=signed" in booted
            assert "evil" not in booted
