"""What PID 1 owes: reaping, Ctrl-Alt-Del, the watchdog, the time it took, archives behind the initrd."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from init_doubles import bzimage, place, system

from fsdrivers.errors import FsError
from init import config, phases
from init.entries import appended
from init.entries.entry import BootEntry
from init.handover import kexec
from init.machine import namespace, signals, watchdog
from init.machine.watchdog import Watchdog
from init.phases import Phases

# --- signals ----------------------------------------------------------------------------------


@pytest.fixture
def handlers() -> Iterator[list[str]]:
    """PID 1's signal handlers; what Ctrl-Alt-Del leads to."""
    saved = {number: signal.getsignal(number) for number in (17, 2, 15, 1, 13, 14)}
    done: list[str] = []
    signals.install(done.append)
    yield done
    signals._restart_wanted = False
    for number, handler in saved.items():
        signal.signal(number, handler)


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + 5
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_children_are_reaped_and_their_status_is_kept_for_who_asks(handlers: list[str]) -> None:
    pids = []
    for status in (0, 3):
        pid = os.fork()
        if pid == 0:
            os._exit(status)
        pids.append(pid)
    wait_for(lambda: all(not os.path.exists(f"/proc/{pid}") for pid in pids))
    assert [signals.ended(pid) for pid in pids] == [0, 3 << 8]
    assert signals.ended(pids[0]) is None


def test_ctrl_alt_del_waits_for_what_is_being_written(handlers: list[str]) -> None:
    with signals.uninterrupted("writing"):
        os.kill(os.getpid(), signal.SIGINT)
        wait_for(lambda: handlers)
        assert handlers == ["writing"]
    assert handlers == ["writing", ""]
    with signals.uninterrupted("more"):
        pass
    assert handlers[2:] == [""]


def test_other_signals_do_not_end_us(handlers: list[str]) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        os.kill(os.getpid(), number)
    signals.release()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


# --- the watchdog -----------------------------------------------------------------------------


class Device:
    """Stands for /dev/watchdog0: a pipe, and the ioctls that were asked for."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, str]) -> None:
        (folder / "module/watchdog/parameters").mkdir(parents=True)
        for name, value in parameters.items():
            (folder / "module/watchdog/parameters" / name).write_text(value + "\n")
        os.mkfifo(folder / "watchdog0")
        self.fd = os.open(folder / "watchdog0", os.O_RDONLY | os.O_NONBLOCK)
        self.asked: list[int] = []
        monkeypatch.setattr("fcntl.ioctl", self.ioctl)
        self.dog = Watchdog(str(folder), str(folder))

    def ioctl(self, fd: int, request: int, argument: bytes) -> bytes:
        if request == watchdog.WDIOC_SETTIMEOUT:
            self.asked.append(struct.unpack("i", argument)[0])
            return argument
        assert request == watchdog.WDIOC_GETTIMEOUT
        return struct.pack("i", 60)

    def pings(self) -> bytes:
        try:
            return os.read(self.fd, 100)
        except BlockingIOError:
            return b""


@pytest.fixture(autouse=True)
def _no_alarms() -> Iterator[None]:
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)


def test_a_watchdog_is_pinged_while_we_wait_and_handed_over_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(tmp_path, monkeypatch, {})
    assert device.dog.start("1") == f"watchdog {tmp_path}/watchdog0 restarts this machine when it hangs for 1 s"
    assert device.asked == [1]
    time.sleep(0.8)
    pings = device.pings()
    assert 2 <= len(pings) <= 4
    device.dog.hand_over()
    assert device.pings() == b"\0"
    time.sleep(0.5)
    assert device.pings() == b""
    device.dog.resume()
    time.sleep(0.4)
    assert b"V" not in device.pings() + pings  # which would stop it


def test_a_long_call_into_the_kernel_does_not_set_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kexec_file_load of a large initrd serves no signals; the target gets the period that was asked for."""
    device = Device(tmp_path, monkeypatch, {})
    device.dog.start("5")
    device.dog.hold()
    assert device.asked == [5, watchdog.HELD]
    device.dog.resume()
    assert device.asked == [5, watchdog.HELD, 5]
    device.dog.hold()
    device.dog.hand_over()
    assert device.asked[3:] == [watchdog.HELD, 5]
    device.dog = Watchdog(str(tmp_path), str(tmp_path))
    device.dog.start("300")
    device.dog.hold()
    device.dog.hand_over()
    assert device.asked[5:] == [300]
    Watchdog().hold()


@pytest.mark.parametrize(
    ("wish", "parameters", "taken"),
    [
        ("auto", {"open_timeout": "0", "handle_boot_enabled": "Y"}, False), ("auto", {}, False),
        ("auto", {"open_timeout": "120", "handle_boot_enabled": "Y"}, True),
        ("auto", {"open_timeout": "0", "handle_boot_enabled": "N"}, True),
        ("off", {"open_timeout": "120"}, False), ("30", {}, True),
    ],
)  # fmt: skip
def test_when_the_watchdog_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wish: str, parameters: dict[str, str], taken: bool
) -> None:
    device = Device(tmp_path, monkeypatch, parameters)
    assert bool(device.dog.start(wish)) == taken == (device.dog.fd is not None)


def test_hardware_is_preferred(tmp_path: Path) -> None:
    for number, identity in enumerate((watchdog.SOFTWARE, "i6300ESB timer")):
        (tmp_path / f"watchdog{number}").touch()
        (tmp_path / f"class/watchdog/watchdog{number}").mkdir(parents=True)
        (tmp_path / f"class/watchdog/watchdog{number}/identity").write_text(identity + "\n")
    assert Watchdog(str(tmp_path), str(tmp_path))._device() == f"{tmp_path}/watchdog1"
    (tmp_path / "watchdog1").unlink()
    assert Watchdog(str(tmp_path), str(tmp_path))._device() == f"{tmp_path}/watchdog0"


def test_no_watchdog_is_worth_a_word_only_to_who_asked(tmp_path: Path) -> None:
    assert Watchdog(str(tmp_path), str(tmp_path)).start("auto") == ""
    assert "no watchdog" in Watchdog(str(tmp_path), str(tmp_path)).start("10")
    Watchdog().hand_over()


def test_the_knob() -> None:
    assert config.read("poolboot.watchdog=20").watchdog == "20"
    bad = config.read("poolboot.watchdog=often")
    assert (bad.watchdog, bad.warnings) == (
        "auto",
        ("poolboot.watchdog=often: wants auto, off or seconds; using auto",),
    )


# --- time -------------------------------------------------------------------------------------


def test_each_second_belongs_to_one_phase() -> None:
    clock = Phases(10.0)
    clock.enter("devices", 11.0)
    before = clock.enter("pools", 13.0)
    assert before == "devices"
    clock.enter(before, 13.5)
    clock.enter("read", 14.0)
    assert clock.seconds == {"start": 1.0, "devices": 2.5, "pools": 0.5}


def test_the_summary_adds_up() -> None:
    clock = Phases(time.monotonic())
    with clock.of("read"):
        time.sleep(0.05)
    text = clock.summary(1.5)
    total, _, parts = text.partition(" s: ")
    assert parts.startswith("program 1.50, start 0.0")
    assert abs(float(total) - sum(float(part.split()[1]) for part in parts.split(", "))) < 0.03


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        (b"<6>[    3.250000] Run /init as init process", 0.75), (b"<6>[    9.0] Run /init as init process", 0.0),
        (b"<6>[   ] Run /init as init process", 0.0), (b"<6>[    3.25] Run /sbin/init", 0.0), (b"", 0.0),
    ],
)  # fmt: skip
def test_loading_the_program_is_told_by_the_kernel(line: bytes, seconds: float) -> None:
    assert phases.loading(b"<6>[ 1.0] first\n" + line + b"\n", 4.0) == seconds


# --- archives behind the initrd ---------------------------------------------------------------


def entry(tree: dict[str, object]) -> BootEntry:
    root = place(tree)
    return BootEntry("id", "title", "source", root, "/boot/vmlinuz-6.1", ("/boot/initrd.img-6.1",), "ro", "6.1")


def test_archives_of_the_initramfs_and_the_root_follow_at_multiples_of_four(tmp_path: Path) -> None:
    ours = tmp_path / "ours.cpio"
    ours.write_bytes(b"070701" * 3)
    tree = system("6.1") | {"extra.cpio": b"from the root"}
    knobs = config.read(f"poolboot.append-initrd=initramfs:{ours},/extra.cpio,root:/extra.cpio")
    whole = appended.attach(entry(tree), knobs, [])
    assert whole.describe().endswith(f"initrd=/boot/initrd.img-6.1,{ours},/extra.cpio,/extra.cpio cmdline=ro")
    fd = kexec.load(whole.open_initrds())
    data = os.pread(fd, 1000, 0)
    os.close(fd)
    assert data == b"initrd of 6.1".ljust(16, b"\0") + b"070701" * 3 + b"\0\0" + b"from the root\0\0\0from the root"
    assert appended.attach(whole, knobs, []) is whole
    assert "18 bytes" not in kexec.preflight(whole, machine="x86_64")[1]


@pytest.mark.parametrize(
    "name", ["initramfs:/gone", "/gone", "root:gone", "esp:/gone", "/etc/../gone", "initramfs:/gone/.."]
)
def test_an_archive_that_is_not_there_fails_the_entry_and_names_the_knob(name: str) -> None:
    with pytest.raises(FsError, match=f"poolboot.append-initrd={name}: .*gone"):
        appended.attach(entry(system("6.1")), config.read(f"poolboot.append-initrd={name}"), [])


@pytest.mark.parametrize("name", ["initramfs:/dev/null", "initramfs:/proc", "/etc"])
def test_an_archive_that_is_no_file_is_told_with_the_knob(name: str) -> None:
    with pytest.raises(FsError, match=f"poolboot.append-initrd={name}: /.*: (not a regular file|is a directory)"):
        appended.attach(entry(system("6.1")), config.read(f"poolboot.append-initrd={name}"), [])


def test_without_the_knob_nothing_changes() -> None:
    one = entry(system("6.1"))
    assert appended.attach(one, config.read(""), []) is one


# --- memory and streams -----------------------------------------------------------------------


def test_too_little_memory_is_told_with_numbers() -> None:
    with pytest.raises(
        kexec.TooLittleMemory, match=r"^23.0 MiB of memory are missing: to load /boot/vmlinuz-6.1 .* 1.0 MiB are free$"
    ):
        kexec.preflight(entry(system("6.1")), 1 << 20, "x86_64")


def test_the_memory_of_the_unpacked_kernel_counts() -> None:
    """The running kernel takes the pages of all that the next one will fill when it unpacks itself."""
    tree = system("6.1")
    image = bytearray(bzimage("6.1"))
    struct.pack_into("<I", image, 0x260, 100 << 20)  # init_size
    tree["boot"]["vmlinuz-6.1"] = bytes(image)  # type: ignore[index]
    with pytest.raises(kexec.TooLittleMemory, match=r"\(12.0 KiB, unpacked 100 MiB\) and 13 bytes of initrd takes 124"):
        kexec.preflight(entry(tree), 90 << 20, "x86_64")
    kexec.preflight(entry(tree), 130 << 20, "x86_64")


def test_closed_streams_are_held() -> None:
    code = (
        "import os\nfor fd in (0, 1, 2): os.close(fd)\nfrom init.machine import namespace\nnamespace.hold_streams()\n"
        "fd = os.open('/etc/passwd', os.O_RDONLY)\nos._exit(fd)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(namespace.__file__).parents[1], check=False)
    assert done.returncode == 3
