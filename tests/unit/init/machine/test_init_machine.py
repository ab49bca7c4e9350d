"""What the init sees of a machine: early mounts, modules for its devices, disks as they come and go."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from init.machine import modules, namespace, syscalls
from init.machine.devices import Disks, human, whole_disks
from init.machine.modules import Modules

# --- mounts -----------------------------------------------------------------------------------


class Kernel:
    """mount(2) that refuses some types with an errno."""

    def __init__(self, **refused: int) -> None:
        self.refused, self.done = refused, []  # type: tuple[dict[str, int], list[tuple[str, str]]]

    def mount(self, what: str, where: str, fstype: str, flags: int, data: str) -> None:
        if fstype in self.refused:
            raise OSError(self.refused[fstype], os.strerror(self.refused[fstype]))
        self.done.append((fstype, where))


def mounts_below(directory: Path) -> tuple[namespace.Mount, ...]:
    return tuple(item._replace(where=f"{directory}{item.where}") for item in namespace.MOUNTS)


def test_everything_is_mounted_once(tmp_path: Path) -> None:
    kernel = Kernel()
    assert namespace.mount_all(mounts_below(tmp_path), kernel.mount) == []
    assert [fstype for fstype, _ in kernel.done] == ["proc", "sysfs", "devtmpfs", "tmpfs", "efivarfs"]


def test_mounted_already_or_no_efi_is_fine(tmp_path: Path) -> None:
    kernel = Kernel(devtmpfs=errno.EBUSY, efivarfs=errno.ENODEV)
    assert namespace.mount_all(mounts_below(tmp_path), kernel.mount) == []


def test_a_refused_mount_is_told_and_the_others_done(tmp_path: Path) -> None:
    kernel = Kernel(proc=errno.EPERM)
    assert namespace.mount_all(mounts_below(tmp_path), kernel.mount) == [
        f"mount proc on {tmp_path}/proc: Operation not permitted"
    ]
    assert ("sysfs", f"{tmp_path}/sys") in kernel.done


def test_without_devtmpfs_there_is_a_place_for_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(devtmpfs=errno.ENODEV)
    made: list[str] = []
    monkeypatch.setattr(namespace.os, "mknod", lambda path, mode, device: made.append(path))
    dev = namespace.Mount("devtmpfs", f"{tmp_path}/dev", "devtmpfs", 0)
    monkeypatch.setattr(namespace, "_DEV_FALLBACK", dev._replace(fstype="tmpfs"))
    (problem,) = namespace.mount_all((dev,), kernel.mount)
    assert problem == f"mount devtmpfs on {dev.where}: No such device; using a tmpfs with our own nodes instead"
    assert kernel.done == [("tmpfs", dev.where)]
    assert {f"{dev.where}/{name}" for name in ("console", "null", "kmsg", "urandom")} <= set(made)


# --- system calls -----------------------------------------------------------------------------


def test_the_kernels_answers_come_back() -> None:
    with pytest.raises(OSError, match=r"not permitted|No such") as caught:
        syscalls.mount("none", "/nonexistent-directory", "tmpfs")
    assert caught.value.errno in (errno.ENOENT, errno.EPERM)
    with pytest.raises(OSError, match="no known number"):
        syscalls.syscall("frobnicate")


def test_the_kernel_writes_into_a_bytearray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        syscalls._NUMBERS, os.uname().machine, {"getrandom": {"x86_64": 318, "aarch64": 278}[os.uname().machine]}
    )
    buffer = bytearray(32)
    assert syscalls.syscall("getrandom", buffer, 32, 0) == 32
    assert buffer != bytes(32)


# --- modules ----------------------------------------------------------------------------------

TABLE = """\
/lib/modules/virtio.ko\t\t
/lib/modules/virtio-ring.ko\tvirtio\t
/lib/modules/virtio_pci.ko.zst\tvirtio,virtio_ring\tpci:v00001AF4d*sv*sd*bc*sc*i*
/lib/modules/virtio_blk.ko\tvirtio,virtio_ring\tvirtio:d00000002v*
/lib/modules/usb_storage.ko\t\tusb:v*p*d*dc*dsc*dp*ic08isc06ip50in* usb:v090Ap1001d010[0-3]dc*dsc*dp*ic*isc*ip*in*
"""
PCI = "pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00"


class Sysfs:
    """/sys/bus and /dev of a machine, and what loading a module makes appear there."""

    def __init__(self, directory: Path) -> None:
        self.path, self.brings, self.refused, self.loaded = directory, {}, {}, []  # type: ignore[var-annotated]

    def device(self, bus: str, name: str, modalias: str) -> None:
        folder = self.path / "bus" / bus / "devices" / name
        folder.mkdir(parents=True)
        (folder / "modalias").write_text(modalias + "\n")

    def load(self, path: str) -> None:
        name = modules.normal(path)
        if name in self.refused:
            raise OSError(self.refused[name], os.strerror(self.refused[name]))
        self.loaded.append(name)
        for device in self.brings.pop(name, ()):
            self.device(*device)


def test_coldplug_goes_on_until_nothing_new_comes(tmp_path: Path) -> None:
    sysfs = Sysfs(tmp_path)
    sysfs.device("pci", "0000:00:04.0", PCI)
    (tmp_path / "bus" / "cpu" / "devices" / "cpu0").mkdir(parents=True)
    sysfs.brings = {"virtio_pci": [("virtio", "virtio0", "virtio:d00000002v00001AF4")]}
    table = Modules(TABLE, str(tmp_path), sysfs.load)
    assert table.coldplug() == 4
    assert sysfs.loaded == ["virtio", "virtio_ring", "virtio_pci", "virtio_blk"]
    sysfs.device("usb", "1-1:1.0", "usb:v090Ap1001d0102dc00dsc00dp00icFFisc00ip00in00")
    assert table.coldplug() == 1
    assert table.coldplug() == 0
    assert sysfs.loaded[-1] == "usb_storage"
    assert table.problems == []


def test_a_module_that_fails_takes_along_what_needs_it_and_is_tried_once(tmp_path: Path) -> None:
    sysfs = Sysfs(tmp_path)
    sysfs.refused = {"virtio_ring": errno.ENOEXEC, "virtio": errno.EEXIST}
    sysfs.device("pci", "0000:00:04.0", PCI)
    table = Modules(TABLE, str(tmp_path), sysfs.load)
    table.coldplug()
    assert table.load("virtio-pci") is False
    assert sysfs.loaded == []
    assert table.problems == [
        "module virtio_ring: Exec format error",
        "module virtio_pci: not loaded, as something it needs was not",
    ]


def test_a_cycle_of_needs_ends_and_a_builtin_counts_as_loaded(tmp_path: Path) -> None:
    table = Modules("/a.ko\tb\t\n/b.ko\ta\t\n", str(tmp_path), lambda path: None)
    assert table.load("a") is False
    assert Modules("", str(tmp_path)).load("ext4") is True
    assert Modules("", str(tmp_path / "nothing")).coldplug() == 0


@given(st.text("ab:*", max_size=8), st.text("ab:", max_size=10))
def test_matching_is_fnmatch(pattern: str, text: str) -> None:
    from fnmatch import fnmatchcase

    assert modules.matches(text, pattern) == fnmatchcase(text, pattern)


@given(st.text())
def test_no_table_stops_the_boot(text: str) -> None:
    Modules(text, "/nonexistent")


# --- disks ------------------------------------------------------------------------------------


def add_disk(root: Path, name: str, sectors: int = 8, **files: str) -> None:
    folder = root / "sys" / "class" / "block" / name
    (folder / "holders").mkdir(parents=True)
    for file, text in {"size": str(sectors), "dev": "254:0", **files}.items():
        (folder / file).write_text(text + "\n")
    (root / "dev").mkdir(exist_ok=True)
    if sectors:
        (root / "dev" / name).write_bytes(bytes(sectors * 512))


def test_disks_come_and_go(tmp_path: Path) -> None:
    disks = Disks(str(tmp_path / "sys"), str(tmp_path / "dev"))
    assert disks.scan() is False
    add_disk(tmp_path, "vdb")
    add_disk(tmp_path, "vda")
    assert disks.scan() is True
    assert disks.scan() is False
    assert [device.name for device in disks.devices] == [f"{tmp_path}/dev/vda", f"{tmp_path}/dev/vdb"]
    (tmp_path / "sys" / "class" / "block" / "vdb").rename(tmp_path / "unplugged")
    assert disks.scan() is True
    assert disks.describe() == [f"{tmp_path}/dev/vda  4.0 KiB"]
    disks.close()
    assert disks.scan() is True


def test_only_whole_disks_with_a_medium_and_nothing_on_top(tmp_path: Path) -> None:
    for name in ("sda", "nvme0n1", "md0", "dm-0", "loop0", "ram1", "zram0", "fd0"):
        add_disk(tmp_path, name)
    add_disk(tmp_path, "sda1", partition="1")
    add_disk(tmp_path, "sr0", sectors=0)
    add_disk(tmp_path, "sdb")
    (tmp_path / "sys/class/block/sdb/holders/md0").touch()
    assert sorted(whole_disks(str(tmp_path / "sys"))) == ["dm-0", "md0", "nvme0n1", "sda"]


def test_a_disk_that_cannot_be_opened_is_told_and_tried_again(tmp_path: Path) -> None:
    add_disk(tmp_path, "vda")
    node = tmp_path / "dev" / "vda"
    node.unlink()
    node.mkdir()
    disks = Disks(str(tmp_path / "sys"), str(tmp_path / "dev"))
    assert disks.scan() is False
    assert disks.describe()[0].startswith("vda  cannot be read: ")
    node.rmdir()
    node.write_bytes(bytes(4096))
    assert disks.scan() is True
    assert disks.describe() == [f"{node}  4.0 KiB"]


def test_sizes_for_people() -> None:
    assert [human(size) for size in (0, 1023, 1024, 10 << 20, 500 << 30, 9 << 50)] == [
        "0 bytes", "1023 bytes", "1.0 KiB", "10.0 MiB", "500 GiB", "9216 TiB",
    ]  # fmt: skip
