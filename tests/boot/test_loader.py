"""Path B and C: UEFI firmware starts the EFI file, from a disk, a CD, with Secure Boot, and through BootNext."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from artefacts import debian as packages
from qemu import images, run
from qemu.machine import Disk, Firmware, Machine, MachineError
from qemu.workshop import Made

pytestmark = pytest.mark.firmware

OVMF = Path("/usr/share/OVMF")
OWNER = "6ac1d0c5-3f0c-4f8e-9f43-5b1c9b2d7f66"
LOGS = run.BUILD / "boot-logs"
BOOT_SECONDS = 400
# What OVMF's build for Secure Boot insists on: its variables are out of the guest's reach.
SECURE_OPTIONS = ["-machine", "smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"]


class Loader(NamedTuple):
    """What `python build.py loader` made."""

    efi: Path
    image: Path
    iso: Path


class Keys(NamedTuple):
    """The owner's key, and a variable store of OVMF that trusts it and nobody else."""

    key: Path
    certificate: Path
    variables: Path


def build(output: Path, *options: str | Path) -> Loader:
    command = [sys.executable, run.PROJECT / "build.py", "loader", "--output", output, *options]
    subprocess.run(command, cwd=run.PROJECT, check=True)
    return Loader(*(output / name for name in ("loader.efi", "loader.img", "loader.iso")))


@pytest.fixture(scope="session")
def loader() -> Loader:
    return build(run.BUILD)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    made = Keys(folder / "key.pem", folder / "cert.pem", folder / "vars.fd")
    request = ["openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"]
    subject = ["-subj", "/CN=The owner of this machine/", "-keyout", made.key, "-out", made.certificate]
    subprocess.run([*request, *subject], check=True, capture_output=True)
    enroll(made.certificate, made.variables)
    return made


def enroll(certificate: Path, target: Path, also: Path | None = None) -> None:
    """Write a variable store of OVMF in which the owner's key is all there is, and ``also`` may sign programs."""
    command = [Path(sys.executable).with_name("virt-fw-vars"), "--input", OVMF / "OVMF_VARS_4M.fd"]
    for option in ("--set-pk", "--add-kek", "--add-db"):
        command += [option, OWNER, certificate]
    if also:
        command += ["--add-db", OWNER, also]
    subprocess.run([*command, "--output", target, "--sb"], check=True, capture_output=True)


@pytest.fixture
def firmware(request: pytest.FixtureRequest) -> Callable[..., Machine]:
    """Makes a Machine that UEFI firmware starts from the disks given."""

    def make(disks: Sequence[Path | Disk], variables: Path | None = None, **options: Any) -> Machine:
        log = LOGS / f"{request.node.name}.log"
        secure = variables is not None and variables.name == "vars.fd"
        code = OVMF / ("OVMF_CODE_4M.secboot.fd" if secure else "OVMF_CODE_4M.fd")
        chosen = Firmware(code, variables or OVMF / "OVMF_VARS_4M.fd", options.pop("keep", False))
        more = [*options.pop("options", []), *(SECURE_OPTIONS if secure else [])]
        return Machine(None, None, "", disks, firmware=chosen, log=log, options=more, **options)

    return make


Firmwares = Callable[..., Machine]


def run_in(guest: Machine, line: str) -> str:
    """Run a command at the root prompt and return what it printed; it has to succeed."""
    guest.send(f"{line}; echo status-$?-\n")
    found = guest.expect(r"(?s)(.*?)^status-(\d+)-$", 60)
    assert found[2] == "0", found[1]
    return found[1]


def log_in(guest: Machine) -> None:
    guest.expect("login: ", BOOT_SECONDS)
    guest.send("root\n")
    guest.expect(r"[#] $", 60)


def test_the_sizes_are_within_budget(loader: Loader) -> None:
    from loader import uki

    parts = uki.sections(loader.efi)
    assert {".linux", ".initrd", ".cmdline", ".osrel", ".uname", ".sbat"} <= set(parts)
    assert len(parts[".linux"]) <= 4 << 20
    assert loader.efi.stat().st_size <= 9 << 20
    assert b"ID=poolboot" in parts[".osrel"]
    assert parts[".sbat"].startswith(b"sbat,1,")
    assert b"poolboot,1," in parts[".sbat"]


def test_the_firmware_boots_debian_from_one_file(firmware: Firmwares, loader: Loader, debian: Made) -> None:
    """No -kernel, no knobs, 384 MiB: firmware, loader.img, our PID 1, kexec, Debian's login, bootctl's variables."""
    with firmware([loader.image, *debian.disks], memory=384) as guest:
        guest.expect(r"poolboot: pool btrfs debian \S+ members 3/3", 120)
        guest.expect(r"poolboot: entry 1 .*Debian GNU/Linux", 60)
        guest.expect(r"poolboot: booting Debian.* in 3 s; Enter stops")
        guest.expect(r"poolboot: booting .* kernel=/boot/vmlinuz-", 30)
        guest.expect(images.MARKER, BOOT_SECONDS)
        assert "poolboot: error" not in guest.console
        log_in(guest)
        info = run_in(guest, "cat /sys/firmware/efi/efivars/LoaderInfo-* | tr -d '\\0'")
        assert "poolboot 0" in info
        selected = run_in(guest, "cat /sys/firmware/efi/efivars/LoaderEntrySelected-* | tr -d '\\0'")
        assert "debian" in selected.lower()


def test_the_firmware_boots_debian_from_the_iso(firmware: Firmwares, loader: Loader, debian: Made) -> None:
    cd = ["-drive", f"if=none,id=cd,media=cdrom,readonly=on,file={loader.iso}", "-device", "ide-cd,drive=cd,bus=ide.0"]
    with firmware(debian.disks, options=cd) as guest:
        guest.expect(r"poolboot: booting .* kernel=/boot/vmlinuz-", 180)
        guest.expect(images.MARKER, BOOT_SECONDS)


def test_knobs_beside_the_efi_file_count(firmware: Firmwares, loader: Loader, debian: Made, tmp_path: Path) -> None:
    image = tmp_path / "loader.img"
    shutil.copyfile(loader.image, image)
    add_conf(image, tmp_path, '# of this machine\ntimeout=0\npoolboot.handover=none\nappend="one two"\nnonsense=1\n')
    with firmware([image, *debian.disks]) as guest:
        guest.expect(r"poolboot: knobs from poolboot.conf: poolboot.timeout=0 ", 120)
        guest.expect(r"poolboot: warning: unknown knob poolboot.nonsense")
        guest.expect(r"poolboot: would boot .* one two", 60)
        guest.expect(r"poolboot> ", 30)


def test_secure_boot_takes_what_the_owner_signed(
    firmware: Firmwares, loader: Loader, keys: Keys, debian: Made, tmp_path: Path
) -> None:
    """The signed file starts; Debian's kernel, whose key nobody enrolled, is refused by kexec, and that is said."""
    signed = build(tmp_path, "--sign", keys.key, keys.certificate)
    with firmware([signed.image, *debian.disks], keys.variables) as guest:
        guest.expect(r"poolboot: Secure Boot is on", 180)
        guest.expect(r"poolboot: booting .* kernel=/boot/vmlinuz-", 60)
        guest.expect(r"poolboot: handover by kexec is not possible: kexec_file_load of /boot/vmlinuz-", 60)


def test_secure_boot_boots_debian_when_its_signer_is_enrolled(
    firmware: Firmwares, loader: Loader, keys: Keys, debian: Made, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The owner trusts Debian's kernels, too: the whole way with every signature checked, ending locked down."""
    kernel = tmp_path / "vmlinuz"
    shutil.copyfile(packages.kernel(request.config.getoption("--suite")).vmlinuz, kernel)
    signature, signer = tmp_path / "signature", tmp_path / "signer.pem"
    subprocess.run(["sbattach", "--detach", signature, kernel], check=True, capture_output=True)
    certificates = ["openssl", "pkcs7", "-inform", "DER", "-in", signature, "-print_certs", "-out", signer]
    subprocess.run(certificates, check=True)
    trusting = tmp_path / "vars.fd"
    enroll(keys.certificate, trusting, also=signer)
    signed = build(tmp_path, "--sign", keys.key, keys.certificate)
    with firmware([signed.image, *debian.disks], trusting) as guest:
        guest.expect(r"poolboot: Secure Boot is on", 180)
        guest.expect(r"poolboot: jumping after ", 60)
        guest.expect(images.MARKER, BOOT_SECONDS)
        log_in(guest)
        assert "[integrity]" in run_in(guest, "cat /sys/kernel/security/lockdown")


def test_secure_boot_refuses_an_unsigned_and_a_tampered_file(
    firmware: Firmwares, loader: Loader, keys: Keys, tmp_path: Path
) -> None:
    signed = build(tmp_path, "--sign", keys.key, keys.certificate)
    tampered = tmp_path / "tampered.efi"
    data = bytearray(signed.efi.read_bytes())
    data[len(data) // 2] ^= 1
    tampered.write_bytes(data)
    from loader import esp

    bad = tmp_path / "tampered.img"
    esp.disk({"EFI/BOOT/BOOTX64.EFI": tampered}, bad, tmp_path / "log")
    for image in (loader.image, bad):
        with firmware([image], keys.variables) as guest:
            guest.expect(r"Access Denied|Security Violation|BdsDxe: (failed|No bootable)", 120)
            with pytest.raises(MachineError):
                guest.expect("poolboot: ", 20)


def test_path_c_stages_reboots_and_comes_back(
    firmware: Firmwares, loader: Loader, debian: Made, tmp_path: Path
) -> None:
    """Poolboot stages and reboots; the firmware starts the distribution's own kernel; then it is poolboot again."""
    image = tmp_path / "loader.img"
    shutil.copyfile(loader.image, image)
    variables = tmp_path / "variables.fd"
    shutil.copyfile(OVMF / "OVMF_VARS_4M.fd", variables)
    add_conf(image, tmp_path, "timeout=0\nhandover=firmware\n")
    machine = firmware([Disk(image, snapshot=False), *debian.disks], variables, keep=True, reboots=True, memory=1024)
    with machine as guest:
        guest.expect(r"poolboot: writing EFI/poolboot/linux-", 180)
        guest.expect(r"poolboot: writing EFI/poolboot/initrd-")
        guest.expect(r"poolboot: the firmware starts Boot[0-9A-F]{4} next", 120)
        guest.expect(images.MARKER, BOOT_SECONDS)
        booted = guest.expect("booted with: (.*)")[1]
        assert "initrd=\\EFI\\poolboot\\initrd-" in booted
        log_in(guest)
        assert "poolboot: " in run_in(guest, "cat /sys/firmware/efi/efivars/Boot0*-* | tr -d '\\0'")
        guest.send("systemctl reboot\n")
        guest.expect(r"poolboot: knobs from poolboot.conf", BOOT_SECONDS)
        guest.expect(r"poolboot: booting ", 60)


def add_conf(image: Path, folder: Path, text: str) -> None:
    """Put a poolboot.conf beside the EFI file."""
    conf = folder / "poolboot.conf"
    conf.write_text(text)
    subprocess.run(["mcopy", "-o", "-i", f"{image}@@{1 << 20}", str(conf), "::/EFI/BOOT/poolboot.conf"], check=True)


CUTS = 20


@pytest.mark.timeout(7200)
def test_a_power_cut_while_staging_leaves_a_machine_that_boots(
    firmware: Firmwares, loader: Loader, debian: Made, tmp_path: Path
) -> None:
    """QEMU is killed at random moments of Path C, again and again on the same disk; it starts something each time."""
    image, variables = tmp_path / "loader.img", tmp_path / "variables.fd"
    shutil.copyfile(loader.image, image)
    shutil.copyfile(OVMF / "OVMF_VARS_4M.fd", variables)
    add_conf(image, tmp_path, "timeout=0\nhandover=firmware\n")
    choose = random.Random(5)
    for _ in range(CUTS):
        with firmware([Disk(image, snapshot=False), *debian.disks], variables, keep=True, reboots=True) as guest:
            # Either it is us again, or the kernel that was staged.
            found = guest.expect(r"poolboot: booting |Linux version .*cloud", 180)
            if found[0].startswith("poolboot"):
                with contextlib.suppress(MachineError):
                    guest.expect(r"this takes longer than any cut", choose.uniform(0.0, 6.0))
    with firmware([Disk(image, snapshot=False), *debian.disks], variables, keep=True, reboots=True) as guest:
        guest.expect(images.MARKER, 2 * BOOT_SECONDS)
