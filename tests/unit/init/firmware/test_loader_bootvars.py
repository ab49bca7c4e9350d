"""The firmware's boot menu, byte by byte and through a directory that looks like efivarfs."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from init.firmware import bootvars, efivars
from init.firmware.bootvars import BootMenu, Partition
from init.firmware.efivars import GLOBAL, FirmwareError, Variable, Variables

# As OVMF itself wrote it for a kernel on partition 1 of a GPT disk: efibootmgr -v shows HD(1,GPT,...)/File(\EFI\x.efi).
GUID = bytes.fromhex("28732ac11ff8d211ba4b00a0c93ec93b")
PARTITION = Partition(1, 2048, 131072, GUID, gpt=True)


@pytest.fixture
def variables(tmp_path: Path) -> Variables:
    return Variables(str(tmp_path))


def test_a_device_path_byte_by_byte() -> None:
    raw = bootvars.device_path(PARTITION, "/EFI/x.efi")
    assert raw[:4] == b"\x04\x01\x2a\x00"  # media, hard drive, 42 bytes
    assert struct.unpack_from("<IQQ", raw, 4) == (1, 2048, 131072)
    assert raw[24:40] == GUID
    assert raw[40:42] == b"\x02\x02"  # GPT, GUID
    name = "\\EFI\\x.efi\0".encode("utf-16-le")
    assert raw[42:46] == b"\x04\x04" + struct.pack("<H", 4 + len(name))
    assert raw[46:] == name + b"\x7f\xff\x04\x00"


def test_an_mbr_partition_is_known_by_its_disk_id() -> None:
    raw = bootvars.device_path(PARTITION._replace(gpt=False, signature=b"\x78\x56\x34\x12" + bytes(12)), "x")
    assert raw[24:28] == b"\x78\x56\x34\x12"
    assert raw[40:42] == b"\x01\x01"


def test_an_option_comes_back_as_it_was_written() -> None:
    path = bootvars.device_path(PARTITION, "\\EFI\\poolboot\\linux-00.efi")
    raw = bootvars.encode("poolboot: Débian", path, b"data")
    assert bootvars.decode(7, raw) == bootvars.LoadOption(
        7, "poolboot: Débian", "\\EFI\\poolboot\\linux-00.efi", b"data"
    )


@given(st.binary(max_size=200))
def test_no_variable_of_a_firmware_breaks_us(raw: bytes) -> None:
    bootvars.decode(0, raw)


def test_a_path_that_runs_past_its_end_is_no_option() -> None:
    raw = bootvars.encode("x", bootvars.device_path(PARTITION, "y"), b"")
    assert bootvars.decode(0, raw[:-1]) is None


def test_our_option_takes_the_first_free_number_and_then_stays_there(variables: Variables) -> None:
    menu = BootMenu(variables)
    path = bootvars.device_path(PARTITION, "\\a")
    variables.set("Boot0000", GLOBAL, bootvars.encode("UiApp", path, b""))
    variables.set("Boot0001", GLOBAL, b"no option at all")
    assert menu.put("poolboot: one", path, b"", "poolboot: ") == 2
    assert menu.put("poolboot: two", path, b"", "poolboot: ") == 2
    assert [(option.name, option.description) for option in menu.options()] == [
        ("Boot0000", "UiApp"),
        ("Boot0002", "poolboot: two"),
    ]


def test_removing_an_option_leaves_no_trace(variables: Variables) -> None:
    menu = BootMenu(variables)
    number = menu.put("poolboot: one", bootvars.device_path(PARTITION, "\\a"), b"", "poolboot: ")
    menu.set_order([3, number, 1])
    menu.set_next(number)
    assert menu.next() == number
    menu.remove(number)
    assert menu.order() == [3, 1]
    assert menu.next() is None
    assert menu.options() == []


def test_a_value_is_written_with_its_attributes_in_one_piece(variables: Variables, tmp_path: Path) -> None:
    assert variables.set("LoaderInfo", efivars.LOADER, b"ab")
    assert (tmp_path / f"LoaderInfo-{efivars.LOADER}").read_bytes() == b"\7\0\0\0ab"
    assert variables.get("LoaderInfo", efivars.LOADER) == Variable(7, b"ab")
    assert not variables.set("LoaderInfo", efivars.LOADER, b"ab"), "NVRAM wears out"
    assert variables.names(efivars.LOADER) == ["LoaderInfo"]
    assert variables.delete("LoaderInfo", efivars.LOADER)
    assert not variables.delete("LoaderInfo", efivars.LOADER)


@pytest.mark.parametrize(
    ("code", "advice"), [(errno.ENOSPC, "full"), (errno.EROFS, "read-only"), (errno.EINVAL, "does not take")]
)
def test_a_refusing_firmware_is_told_by_variable_and_reason(
    variables: Variables, monkeypatch: pytest.MonkeyPatch, code: int, advice: str
) -> None:
    def refuse(fd: int, data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(FirmwareError) as caught:
        variables.set("BootNext", GLOBAL, b"\1\0")
    assert "BootNext" in str(caught.value)
    assert errno.errorcode[code] in str(caught.value)
    assert advice in str(caught.value)


def test_a_machine_without_efi() -> None:
    nothing = Variables("/nonexistent")
    assert not nothing.available
    assert nothing.get("BootOrder", GLOBAL) is None
    assert BootMenu(nothing).options() == []
    with pytest.raises(FirmwareError, match="no EFI variables"):
        nothing.set("BootNext", GLOBAL, b"\1\0")


@pytest.mark.parametrize(("seen", "secure"), [(0, False), (1, False), (2, False), (3, True), (None, False)])
def test_what_the_stub_saw_of_secure_boot_counts_where_no_variable_can_be_read(
    tmp_path: Path, seen: int | None, secure: bool
) -> None:
    (tmp_path / "data").write_bytes(bytes(0x1EC) + (bytes((seen,)) + bytes(16) if seen is not None else b""))
    assert efivars.secure_boot(Variables("/nonexistent"), str(tmp_path / "data")) == secure
    assert not efivars.secure_boot(Variables("/nonexistent"), str(tmp_path / "gone"))


def test_secure_boot_is_on_only_outside_of_setup_mode(variables: Variables) -> None:
    assert not efivars.secure_boot(variables)
    variables.set("SecureBoot", GLOBAL, b"\1", 6)
    assert efivars.secure_boot(variables)
    variables.set("SetupMode", GLOBAL, b"\1", 6)
    assert not efivars.secure_boot(variables)
