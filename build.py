"""Build the boot image: ``build/init``, ``build/vmlinuz`` and ``build/initramfs.cpio.zst``.

    python build.py                  everything
    python build.py program          only build/init
    python build.py native           compile fsdrivers/native beside its sources
    python build.py kernel           only the kernel: of kernel-config/, compiled from Debian's source
    python build.py loader           build/loader.efi, loader.img and loader.iso
    python build.py reproduce        the EFI file and all that is in it twice: are they the same bytes?
    python build.py --arch arm64     any of these for another architecture, in build/arm64

How it is done is in the package ``artefacts``; this file is the command line.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path

from artefacts import bootimage, initramfs, native, program, toolchain
from artefacts.counters import Tally
from artefacts.steps import BuildError, explain, short, step
from artefacts.together import both

PROJECT = Path(__file__).resolve().parent
WHAT = ("all", "program", "native", "kernel", "loader", "reproduce")


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after a message when something could not be built."""
    options = _parser().parse_args(arguments)
    if options.output is None:
        options.output = PROJECT / "build" / ("" if options.arch == toolchain.machine() else options.arch)
    start = time.monotonic()
    try:
        if options.what == "native":
            _native(options)
        elif options.what == "program":
            _program(options)
        elif options.what == "kernel":
            _kernel_alone(options)
        elif options.what == "loader":
            _loader(options)
        elif options.what == "reproduce":
            _reproduce(options)
        else:
            _everything(options)
    except (BuildError, OSError) as failure:
        error = failure if isinstance(failure, BuildError) else explain(failure)
        print(f"build: error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"build: hint: {error.hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("build: interrupted", file=sys.stderr)
        return 130
    print(f"build: finished in {time.monotonic() - start:.1f} s")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="build.py", description="Build the boot image of poolboot.")
    parser.add_argument("what", nargs="?", default="all", choices=WHAT)
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="default: build/, for another architecture build/ARCH/"
    )
    parser.add_argument(
        "--dynamic", action="store_true", help="a dynamic program with its libraries, where there is no libpython.a"
    )
    parser.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="PATH[:DEST]",
        help="also put in a program with its libraries, any file, or a kernel module with its dependencies",
    )
    parser.add_argument(
        "--kernel",
        type=Path,
        default=Path(bootimage.SLIM),
        metavar="PATH|slim|debian",
        help="bootstrap kernel: of kernel-config/ (default), Debian's with its modules, or your own",
    )
    parser.add_argument(
        "--modules", type=Path, metavar="DIR", help="its lib/modules/RELEASE; without it nothing is a module"
    )
    parser.add_argument("--suite", default="bookworm", help="the Debian suite of the kernel (%(default)s)")
    parser.add_argument(
        "--kernel-package", default="linux-image-cloud-amd64", metavar="NAME", help="with --kernel debian (%(default)s)"
    )
    parser.add_argument(
        "--arch",
        default=toolchain.machine(),
        choices=sorted(toolchain.TRIPLETS),
        help="of program and slim kernel (%(default)s)",
    )
    parser.add_argument("--compare", action="store_true", help="kernel: also measure what slimming buys, for the docs")
    loader = parser.add_argument_group("loader")
    loader.add_argument("--cmdline", default="", metavar="WORDS", help="added to the command line in the EFI file")
    loader.add_argument("--sign", type=Path, nargs=2, metavar=("KEY", "CERT"), help="for Secure Boot; PEM files")
    loader.add_argument("--conf", type=Path, metavar="PATH", help="put this poolboot.conf beside the EFI file")
    loader.add_argument("--esp-size", type=int, default=64, metavar="MIB", help="of loader.img (%(default)s)")
    return parser


def _everything(options: argparse.Namespace) -> None:
    includes = [initramfs.parse_include(text) for text in options.include]
    image = bootimage.build(options.output, _wish(options), includes, static=not options.dynamic)
    _print_sizes(image.parts, image.initramfs, image.vmlinuz)


def _wish(options: argparse.Namespace) -> bootimage.Wish:
    return bootimage.Wish(options.kernel, options.modules, options.suite, options.kernel_package, options.arch)


def _program(options: argparse.Namespace) -> program.Program:
    return program.build(options.output, static=not options.dynamic, chain=toolchain.find(options.arch))


def _kernel_alone(options: argparse.Namespace) -> None:
    kernel = bootimage.kernel(_wish(options))
    bootimage.install_kernel(kernel, options.output)
    print(f"build:   {short(options.output / 'vmlinuz')}  {kernel.vmlinuz.stat().st_size:,} bytes")
    if not options.compare:
        return
    from artefacts import kernel_compare
    from qemu import zfs
    from qemu.measure import measure

    made = _program(options)
    image, _ = initramfs.build(options.output / "loader", made, None, kernel.release, [])
    page = kernel_compare.compare(options.suite, image, zfs.modules(options.suite).modules, measure)
    target = PROJECT / "docs" / "kernel-slimming.md"
    target.write_text(page)
    print(page)


def _loader(options: argparse.Namespace) -> None:
    from loader import make, uki

    made, kernel = both(partial(_program, options), partial(bootimage.kernel, _wish(options)))
    carried = kernel if kernel.modules.is_dir() else None
    includes = [initramfs.parse_include(text) for text in options.include]
    # Beside the one that build/vmlinuz goes with, which may be another kernel.
    image, parts = initramfs.build(options.output / "loader", made, carried, kernel.release, includes)
    key, certificate = options.sign or (None, None)
    wishes = make.Wishes(options.cmdline, key, certificate, options.esp_size << 20, options.conf)
    files = make.build(options.output, uki.Parts(kernel.vmlinuz, image, kernel.release), wishes, options.arch)
    _print_sizes(parts, image, kernel.vmlinuz)
    for path in files:
        print(f"build:   {short(path)}  {path.stat().st_size:,} bytes")


def _reproduce(options: argparse.Namespace) -> None:
    from artefacts import reproduce

    _kernel_alone(options)
    _loader(options)
    twins = reproduce.check(options.output, ["--suite", options.suite, "--arch", options.arch])
    for twin in twins:
        print(f"build:   {'same     ' if twin.same else 'DIFFERENT'}  {twin.digest}  {twin.size:>11,}  {twin.name}")
    if different := [twin.name for twin in twins if not twin.same]:
        raise BuildError(f"a second build made other files: {', '.join(different)}")


def _native(options: argparse.Namespace) -> None:
    log = options.output / "logs" / "native.log"
    tally = Tally("modules compiled")
    with step("compiling fsdrivers/native", log, tally):
        for path in native.build_in_place(log, tally):
            print(f"build: {short(path)}")


def _print_sizes(parts: list[initramfs.Part], image: Path, kernel: Path) -> None:
    """The size of every part before compression, and of the two files that a boot loader reads."""
    rows = [(part.what, part.size) for part in parts]
    rows.append(("together, before compression", sum(part.size for part in parts)))
    rows += [(short(path), path.stat().st_size) for path in (image, kernel)]
    width = max(len(what) for what, _ in rows)
    for what, size in rows:
        print(f"build:   {what:<{width}}  {size:>11,} bytes")


if __name__ == "__main__":
    sys.exit(main())
