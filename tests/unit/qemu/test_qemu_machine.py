"""The harness's Machine, with shell scripts in QEMU's place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from places import PROJECT, UNIT

from qemu import accel
from qemu.machine import Disk, Firmware, Machine, MachineError


class Script(Machine):
    """Runs a shell script instead of QEMU."""

    def __init__(self, script: str, log: Path | None = None) -> None:
        super().__init__(None, log=log)
        self._script = script

    def command(self, serial: Sequence[str]) -> list[str]:
        return ["/bin/sh", "-c", self._script]


@pytest.fixture(autouse=True)
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOLBOOT_ACCEL", "tcg")
    monkeypatch.delenv("POOLBOOT_TIMEOUT_SCALE", raising=False)


def test_a_conversation(tmp_path: Path) -> None:
    log = tmp_path / "deeper" / "log"
    with Script(r"printf 'login: '; read name; printf 'hello %s\r\n' $name; sleep 60", log) as machine:
        machine.expect("^login: $", 10)
        machine.send("root\n")
        assert machine.expect(r"hello (\w+)$", 10)[1] == "root"
    assert log.read_bytes() == b"login: hello root\r\n"


def test_each_expectation_starts_behind_the_one_before() -> None:
    with Script("echo one two one; sleep 60") as machine:
        machine.expect("one", 10)
        machine.expect("one", 10)
        with pytest.raises(MachineError, match="seconds passed"):
            machine.expect("one", 0.2)


def test_the_rest_of_a_line_is_waited_for() -> None:
    with Script(
        "printf 'cmdline=root=UUID=76'; sleep 0.5; echo '4d ro'; printf 'last: wo'; sleep 0.5; printf rds"
    ) as machine:
        assert machine.expect("cmdline=(.*)", 10)[1] == "root=UUID=764d ro"
        assert machine.expect("last: (.*)", 10)[1] == "words"


def test_escape_sequences_are_no_part_of_the_console() -> None:
    script = r"printf '\033[0;1;32m  OK  \033[0m] up\033[?20'; sleep 0.3; printf '04h done\n\303'; sleep 0.3"
    with Script(script + r"; printf '\244\n'; sleep 60") as machine:
        machine.expect(r"^  OK  \] up done\nä$", 10)


def test_the_end_of_the_console_explains_a_timeout() -> None:
    with Script("seq 100; sleep 60") as machine:
        machine.expect("100", 10)
        with pytest.raises(MachineError) as caught:
            machine.expect("never", 0.1)
    assert "before the console said 'never'" in str(caught.value)
    assert str(caught.value).endswith("    99\n    100")
    assert "    50\n" not in str(caught.value)


def test_an_early_end_is_not_waited_out() -> None:
    start = time.monotonic()
    with Script("echo last words; exit 3") as machine:
        with pytest.raises(MachineError, match=r"ended with status 3 .*\n    last words"):
            machine.expect("never", 60)
        with pytest.raises(MachineError, match="QEMU ended before"):
            machine.send("hello\n" * 100_000)
    assert time.monotonic() - start < 30


def test_a_panic_fails_unless_it_is_expected() -> None:
    script = "echo '[  1.0] Kernel panic - not syncing: VFS'; echo after; sleep 60"
    with (
        Script(script) as machine,
        pytest.raises(MachineError, match=r"guest died \(Kernel panic - not syncing: VFS\)"),
    ):
        machine.expect("never", 60)
    with Script(script) as machine:
        machine.expect("after", 10, panic=True)
    with Script(script) as machine:
        machine.expect("Kernel panic", 10)


def test_the_exit_status() -> None:
    with Script("exit 4") as machine:
        assert machine.wait_exit(10) == 4
    with Script("sleep 60") as machine, pytest.raises(MachineError, match="still on after 0 seconds"):
        machine.wait_exit(0.1)


def test_the_scale_of_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOLBOOT_TIMEOUT_SCALE", "100")
    with Script("sleep 1; echo now; sleep 60") as machine:
        machine.expect("now", 0.3)


def test_nothing_stays_behind(tmp_path: Path) -> None:
    with Script("echo $$; exec sleep 600") as machine:
        pid = int(machine.expect(r"\d+", 10)[0])
        scratch = machine.log.parent
        assert scratch.is_dir()
    assert not _alive(pid)
    assert not scratch.exists()


def test_the_machine_dies_with_its_owner(tmp_path: Path) -> None:
    source = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_qemu_machine import Script
with Script("echo $$; exec sleep 600") as machine:
    print(machine.expect(r"[0-9]+", 10)[0], flush=True)
    sys.stdin.read()
"""
    owner = subprocess.Popen(
        [sys.executable, "-c", source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{PROJECT}:{UNIT}", "TMPDIR": str(tmp_path)},
    )
    with owner:
        assert owner.stdout
        pid = int(owner.stdout.readline())
        assert _alive(pid)
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_command_line_of_a_kernel_with_disks(tmp_path: Path) -> None:
    disks: list[Path | Disk] = [tmp_path / "a,b"]
    disks += [
        Disk(tmp_path / bus, bus, snapshot=False, readonly=True) for bus in ("nvme", "ahci", "ahci", "scsi", "usb")
    ]
    command = Machine(Path("/k"), Path("/i"), "quiet", disks, memory=512, cpus=2).command(["-serial", "x"])
    text = " ".join(command)
    assert command[0] == accel.QEMU["x86_64"]
    assert "-accel tcg -cpu max,-erms,-fsrm -m 512 -smp 2" in text
    assert "-kernel /k -append quiet -initrd /i" in text
    assert f"file={tmp_path}/a,,b" in text
    assert "id=disk0,format=raw,snapshot=on,readonly=off" in text
    assert "id=disk1,format=raw,snapshot=off,readonly=on" in text
    assert text.count("-device ahci,id=ahci ") == 1
    assert "ide-hd,bus=ahci.0,drive=disk2" in text
    assert "ide-hd,bus=ahci.1,drive=disk3" in text
    assert "-no-reboot" in command
    assert "-machine" not in command


def test_the_command_line_of_firmware(tmp_path: Path) -> None:
    command = Machine(None, firmware=Firmware(Path("/code"), Path("/vars")), reboots=True).command([])
    text = " ".join(command)
    assert "-machine q35 -drive if=pflash,format=raw,readonly=on,file=/code" in text
    assert "if=pflash,format=raw,snapshot=on,file=/vars" in text
    assert "-kernel" not in command
    assert "-no-reboot" not in command


def test_the_command_line_of_another_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOLBOOT_ACCEL", "kvm")  # of this machine's architecture, that is
    text = " ".join(Machine(Path("/k"), architecture="arm64").command([]))
    assert text.startswith("qemu-system-aarch64 -accel tcg -cpu max ")
    assert "-machine virt -kernel /k" in text


def test_the_accelerator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POOLBOOT_CACHE", str(tmp_path))
    assert accel.choose(None) == "tcg"
    monkeypatch.setenv("POOLBOOT_ACCEL", "kvm")
    assert accel.choose(None) == "kvm"
    monkeypatch.setenv("POOLBOOT_ACCEL", "magic")
    with pytest.raises(ValueError, match="tcg or kvm"):
        accel.choose(None)


@pytest.mark.parametrize(
    ("script", "result"),
    [
        ("echo 'Kernel panic - not syncing: VFS: Unable to mount root fs'", "kvm"),
        ("echo 'Could not access KVM kernel module'; exit 1", "tcg"),
        ("trap '' TERM INT; while :; do sleep 0.1; done", "tcg"),  # hangs, as guests on a broken /dev/kvm do
    ],
)
def test_only_a_guest_that_ran_makes_kvm_trusted(
    script: str, result: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "qemu"
    fake.write_text(f"#!/bin/sh\necho started >>{tmp_path}/starts\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.delenv("POOLBOOT_ACCEL")
    monkeypatch.setenv("POOLBOOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(accel.QEMU, "x86_64", str(fake))
    monkeypatch.setattr(accel, "PROBE_SECONDS", 0.5)
    monkeypatch.setattr(accel.os, "access", lambda *_: True)
    assert accel.choose(None) == "tcg"  # nothing is known without a kernel to try
    assert accel.choose(Path("/kernel")) == result
    assert accel.choose(Path("/kernel")) == result
    assert accel.choose(None) == result
    assert (tmp_path / "starts").read_text() == "started\n"
