"""The ELF checks and the library closure, on files that gcc made."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from artefacts import elf
from artefacts.steps import BuildError


def gcc(target: Path, code: str, *flags: str) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["gcc", "-x", "c", "-", "-x", "none", "-o", target, *flags],
        input=code.encode(),
        check=True,
        capture_output=True,
    )
    return target


MAIN = "int main(void) { return 0; }\n"
BARE = "void _start(void) { for (;;) ; }\n"


def test_a_static_program_passes(tmp_path: Path) -> None:
    elf.check_static(gcc(tmp_path / "static", MAIN, "-static"))


def test_a_dynamic_program_is_refused_with_every_reason(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"interpreter /lib.*ld-.*libc\.so\.6 \(DT_NEEDED\)"):
        elf.check_static(gcc(tmp_path / "dynamic", MAIN))


def test_an_executable_stack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="executable stack"):
        elf.check_static(gcc(tmp_path / "stack", MAIN, "-static", "-Wl,-z,execstack"))


def test_writable_code_is_refused(tmp_path: Path) -> None:
    made = gcc(tmp_path / "omagic", f"int x = 1; {BARE}", "-static", "-nostdlib", "-Wl,-N")
    with pytest.raises(BuildError, match="both writable and executable, at 0x"):
        elf.check_static(made)


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x7fELF" + bytes(60), b"#!/bin/sh\n"])
def test_what_is_no_elf_file_is_one_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd"
    path.write_bytes(content)
    with pytest.raises(BuildError, match="odd"):
        elf.check_static(path)


def test_truncated_files_end_in_no_other_error(tmp_path: Path) -> None:
    whole = gcc(tmp_path / "whole", MAIN).read_bytes()
    cut = tmp_path / "cut"
    for length in [*range(64, 1200, 37), len(whole) // 2]:
        cut.write_bytes(whole[:length])
        with suppress(BuildError):  # what is left may still say all that is asked for; nothing else may come out
            elf.read(cut)


@pytest.fixture
def sysroot(tmp_path: Path) -> Path:
    """A root with /opt/app/bin/tool -> libone (RUNPATH $ORIGIN/../lib) -> libtwo (ld.so.conf) -> libthree (usual)."""
    root = tmp_path / "root"
    three = shared(root / "usr/lib/libthree.so", "int three(void) { return 3; }\n")
    two = shared(root / "opt/two/libtwo.so", "int three(void); int two(void) { return three(); }\n", str(three))
    one = shared(root / "opt/app/lib/libone.so.1", "int two(void); int one(void) { return two(); }\n", str(two),
                 "-Wl,-rpath,$ORIGIN")  # fmt: skip
    gcc(root / "opt/app/bin/tool", f"int one(void); int x(void) {{ return one(); }} {BARE}", "-nostdlib", "-no-pie",
        str(one), "-Wl,-rpath,$ORIGIN/../lib", "-Wl,--allow-shlib-undefined",
        "-Wl,--dynamic-linker,/lib64/ld-test.so")  # fmt: skip
    (root / "etc/ld.so.conf.d").mkdir(parents=True)
    (root / "etc/ld.so.conf").write_text("include /etc/ld.so.conf.d/*.conf\n")
    (root / "etc/ld.so.conf.d/two.conf").write_text("# comment\n/opt/two\n")
    (root / "lib64").symlink_to("/usr/lib64")
    (root / "usr/lib64").mkdir()
    (root / "usr/lib64/ld-test.so").write_bytes(b"loader")
    return root


def shared(target: Path, code: str, *flags: str) -> Path:
    return gcc(target, code, "-shared", "-fPIC", "-nostdlib", f"-Wl,-soname,{target.name}", *flags)


def test_closure_follows_origin_configuration_and_usual_places(sysroot: Path) -> None:
    found = elf.closure(sysroot / "opt/app/bin/tool", sysroot)
    assert found == {
        "/lib64/ld-test.so": sysroot / "usr/lib64/ld-test.so",
        "/opt/app/bin/../lib/libone.so.1": sysroot / "opt/app/lib/libone.so.1",
        "/usr/lib/libtwo.so": sysroot / "opt/two/libtwo.so",
        "/usr/lib/libthree.so": sysroot / "usr/lib/libthree.so",
    }


def test_a_missing_library_names_itself_and_its_user(sysroot: Path) -> None:
    (sysroot / "opt/two/libtwo.so").unlink()
    with pytest.raises(BuildError, match=r"libone\.so\.1 needs libtwo\.so"):
        elf.closure(sysroot / "opt/app/bin/tool", sysroot)


def test_a_library_of_another_architecture_is_passed_over(sysroot: Path) -> None:
    library = sysroot / "opt/two/libtwo.so"
    decoy = sysroot / "opt/app/lib/libtwo.so"
    data = bytearray(library.read_bytes())
    data[18:20] = (183).to_bytes(2, "little")  # e_machine: EM_AARCH64
    decoy.write_bytes(data)
    assert elf.closure(sysroot / "opt/app/bin/tool", sysroot)["/usr/lib/libtwo.so"] == library


def test_the_closure_of_a_real_program_lets_it_run(tmp_path: Path) -> None:
    found = elf.closure(Path("/usr/bin/zstd"))
    assert any(Path(place).name == "libc.so.6" for place in found)
    libraries = tmp_path / "lib"
    libraries.mkdir()
    loader = ""
    for place, host in found.items():
        copy = libraries / Path(place).name
        copy.write_bytes(host.read_bytes())
        copy.chmod(0o755)
        loader = loader or str(copy)  # the interpreter comes first
    done = subprocess.run(
        [loader, "--inhibit-cache", "--library-path", str(libraries), "/usr/bin/zstd", "--version"],
        capture_output=True,
        check=True,
    )
    assert b"Zstandard" in done.stdout


def test_links_never_lead_out_of_the_sysroot(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/up").symlink_to("../../../../etc")
    (tmp_path / "abs").symlink_to("/a")
    (tmp_path / "loop").symlink_to("loop")
    assert elf.resolve("/a/up/passwd", tmp_path) == tmp_path / "etc/passwd"
    assert elf.resolve("/abs/x", tmp_path) == tmp_path / "a/x"
    with pytest.raises(BuildError, match="too many symbolic links"):
        elf.resolve("/loop", tmp_path)
