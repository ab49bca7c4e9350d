"""``python -m loader nvram list|clear``: what poolboot left in the firmware of this machine, and its removal;
``python -m loader password``: the knob that makes a password open what poolboot.lock= locks."""

from __future__ import annotations

import argparse
import getpass
import os
import sys

from fsdrivers.errors import FsError
from fsdrivers.shown import printable
from init import locks
from init.firmware import efivars, esp, stub
from init.firmware.bootvars import BootMenu
from init.firmware.efivars import DEFAULT, LOADER, POOLBOOT, Variables
from init.handover.firmware import OWN


def main(arguments: list[str] | None = None) -> int:
    """The exit status is 0, or 1 after a message when the firmware refuses, or has no variables."""
    parser = argparse.ArgumentParser(prog="python -m loader", description="The firmware's side of poolboot.")
    commands = parser.add_subparsers(dest="command", required=True)
    nvram = commands.add_parser("nvram", help="variables of this machine's firmware")
    nvram.add_argument("action", choices=["list", "clear"])
    nvram.add_argument("--efivars", default=efivars.ROOT, metavar="DIR", help="where efivarfs is (%(default)s)")
    nvram.add_argument("--esp", metavar="DIR", help="a mounted ESP: also list or remove the files staged there")
    password = commands.add_parser("password", help="make poolboot.lock-password= for a password")
    password.add_argument("--iterations", type=int, default=locks.ITERATIONS, help="of PBKDF2 (%(default)s)")
    options = parser.parse_args(arguments)
    if options.command == "password":
        return tell_password(options.iterations)
    variables = Variables(options.efivars)
    try:
        if not variables.available:
            raise efivars.FirmwareError(f"no EFI variables in {options.efivars}: not started by UEFI, or not mounted")
        lines = listing(variables, options.esp) if options.action == "list" else clear(variables, options.esp)
    except (FsError, OSError) as error:
        print(printable(f"loader: error: {error}", ""), file=sys.stderr)
        return 1
    # Boot options may be called anything.
    print(printable("\n".join(lines), "\n") or "nothing of poolboot's is here")
    return 0


def tell_password(iterations: int) -> int:
    """Ask for a password twice, or read it as one line from a pipe, and print the knob; the exit status."""
    if not 1 <= iterations <= locks.MAX_ITERATIONS:
        print(f"loader: error: --iterations: wants 1 to {locks.MAX_ITERATIONS}", file=sys.stderr)
        return 2
    if sys.stdin.isatty():
        first = getpass.getpass("Password: ")
        same = first == getpass.getpass("The same again: ")
    else:
        first, same = sys.stdin.readline().rstrip("\n"), True
    if not first or not same:
        print(f"loader: error: {'no password' if not first else 'these are two passwords'}", file=sys.stderr)
        return 1
    print(f"poolboot.lock-password={locks.make_hash(first, iterations)}")
    return 0


def listing(variables: Variables, mounted: str | None) -> list[str]:
    """A line for each thing that is poolboot's."""
    menu = BootMenu(variables)
    order, following = menu.order(), menu.next()
    lines = []
    for option in menu.options():
        if option.description.startswith(OWN):
            where = f", {order.index(option.number) + 1}. in BootOrder" if option.number in order else ""
            where += ", BootNext" if option.number == following else ""
            lines.append(f"{option.name}  {option.description}  {option.file}{where}")
    lines += [f"{name}  {_value(variables, name, vendor)}" for name, vendor in _own(variables)]
    return lines + [f"{mounted}/{esp.DIRECTORY}/{name}" for name in _staged(mounted)]


def clear(variables: Variables, mounted: str | None) -> list[str]:
    """Remove all of that; a line for each thing that went."""
    lines = []
    menu = BootMenu(variables)
    for option in menu.options():
        if option.description.startswith(OWN):
            menu.remove(option.number)
            lines.append(f"removed {option.name}  {option.description}")
    for name, vendor in _own(variables):
        variables.delete(name, vendor)
        lines.append(f"removed {name}")
    for name in _staged(mounted):
        os.unlink(f"{mounted}/{esp.DIRECTORY}/{name}")
        lines.append(f"removed {mounted}/{esp.DIRECTORY}/{name}")
    return lines


def _own(variables: Variables) -> list[tuple[str, str]]:
    """Our variables; those of the boot loader interface only where they are ours and not another boot loader's."""
    found = [(name, POOLBOOT) for name in variables.names(POOLBOOT)]
    info = variables.get("LoaderInfo", LOADER)
    if info is not None and info.attributes == DEFAULT and info.text.startswith("poolboot"):
        found += [(name, LOADER) for name in stub.REPORTED if variables.get(name, LOADER) is not None]
    return found


def _value(variables: Variables, name: str, vendor: str) -> str:
    value = variables.get(name, vendor)
    if value is None:
        return "(cannot be read)"
    if vendor == POOLBOOT:
        return value.data.decode("utf-8", "replace").rstrip("\0\n")
    if name == "LoaderFeatures":
        return value.data.hex()
    return value.data.decode("utf-16-le", "replace").rstrip("\0").replace("\0", ", ")


def _staged(mounted: str | None) -> list[str]:
    if mounted is None:
        return []
    try:
        return sorted(os.listdir(f"{mounted}/{esp.DIRECTORY}"))
    except FileNotFoundError:
        return []


if __name__ == "__main__":
    sys.exit(main())
