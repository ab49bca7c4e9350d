"""The tool for a person at a desk: look into pools on disk images and devices, and take things out."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Callable
from typing import Any, TextIO

from fsdrivers import bounds
from fsdrivers.block import BlockDevice, FileDevice
from fsdrivers.desk.walk import record, to_json, to_text
from fsdrivers.errors import Ambiguous, FsError, NotFound
from fsdrivers.filesystem import DIRECTORY, SYMLINK, Filesystem, Node, Stat
from fsdrivers.pool import Pool
from fsdrivers.pools import assemble
from fsdrivers.shown import printable, when
from fsdrivers.traverse import sorted_entries, walk

OK, FAILED, USAGE = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run the command line ``arguments``; the exit status is 0 fine, 1 could not be read, 2 usage."""
    for stream in (sys.stdout, sys.stderr):
        # Names on disks are bytes; what is not UTF-8 leaves as it came.
        stream.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    if arguments is None:
        arguments = sys.argv[1:]
    options = _parser(arguments).parse_args(arguments)
    options.images = options.before + options.behind
    if not options.images:
        _parser(arguments).error("no disk: name at least one image or device with -a")
    try:
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader of our output left (| head): nothing to complain about, but not a success either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return 130
    except (FsError, OSError) as error:
        return _fail(str(error))
    except MemoryError:
        return _fail("out of memory")
    except Exception as error:
        if os.environ.get("FSDRIVERS_DEBUG"):
            raise
        return _fail(f"internal: {type(error).__name__}: {error} (please report; FSDRIVERS_DEBUG=1 shows where)")


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    """The parser; options that all commands share may stand before or behind the command.

    It knows the commands that ``arguments`` could mean, as making all of them takes longer than reading a small file.
    """
    parser = argparse.ArgumentParser(
        "fsdrivers", description=__doc__, parents=[_shared("before")], formatter_class=_formatter
    )
    parser.set_defaults(before=[], behind=[], pool=None, fs=None, no_log=False)
    parsers = parser.add_subparsers(required=True, metavar="COMMAND", prog="fsdrivers")
    commands = _commands()
    if {"-h", "--help"}.isdisjoint(arguments):
        commands = {name: commands[name] for name in commands if name in arguments} or commands
    for name, (run, text, shapes) in commands.items():
        one = parsers.add_parser(
            name, help=text, description=text, parents=[_shared("behind")], formatter_class=_formatter
        )
        one.set_defaults(run=run)
        for names, shape in shapes:
            one.add_argument(*names, **shape)
    return parser


_INSPECTED = {
    "super": "", "chunk": "[ADDRESS]", "node": "ADDRESS", "tree": "NAME", "labels": "", "uberblocks": "", "mos": "",
    "object": "DATASET ID", "blkptr": "VDEV:OFFSET:SIZE", "gpt": "", "fat": "",
}  # fmt: skip
"""What `inspect` shows, and the arguments of each; a copy, as their own module takes long to import."""
_Shape = tuple[tuple[str, ...], dict[str, Any]]


def _argument(*names: str, **shape: Any) -> _Shape:
    """What add_argument() is called with."""
    return names, shape


def _flag(*names: str, **shape: Any) -> _Shape:
    return names, {"action": "store_true", **shape}


def _commands() -> dict[str, tuple[Callable[[argparse.Namespace], int], str, tuple[_Shape, ...]]]:
    """The commands: what runs, what it is for, its arguments."""
    path = _argument("path")
    below = _argument("path", nargs="?", default="/")
    json = _flag("--json", help="one object a line")
    return {
        "probe": (
            _probe,
            "show pools, members present and missing, and what can be opened in them",
            (_flag("--json", help="all as one object"),),
        ),
        "ls": (
            _ls,
            "list a directory",
            (
                _flag("-l", dest="long", help="with mode, owner, size and time"),
                _flag("-R", dest="recursive", help="and everything below"),
                below,
            ),
        ),
        "cat": (_cat, "write a file to standard output", (path,)),
        "cp": (
            _cp,
            "copy a file or, with -r, a directory out of the pool",
            (_flag("-r", "-R", dest="recursive"), path, _argument("dest")),
        ),
        "inspect": (
            _inspect,
            "show on-disk structures in words, whole or damaged",
            (
                _flag("--offsets", help="with the place of each field in its structure"),
                _flag("--json", help="one structure a line"),
                _argument(
                    "what",
                    metavar="WHAT",
                    choices=_INSPECTED,
                    help=", ".join(f"{name} {rest}".strip() for name, rest in _INSPECTED.items()),
                ),
                _argument("details", metavar="ARGUMENT", nargs="*", help="what stands behind it there"),
            ),
        ),
        "mount": (
            _mount,
            "show a tree in a directory, read-only, until it is unmounted or Ctrl-C",
            (_argument("directory"),),
        ),
        "tar": (_tar, "write a directory as a tar archive to standard output", (below,)),
        "verify": (
            _verify,
            "read everything and check every checksum; one line for each damaged place",
            (_flag("--all-copies", help="every copy and all parity, not just the first good one"), json),
        ),
        "walk": (
            _walk,
            "print every object below a path, one a line",
            (_flag("--sha256", help="with the hash of each file's content"), json, below),
        ),
    }


def _shared(place: str) -> argparse.ArgumentParser:
    """The shared options; images from before and behind the command are kept apart, as argparse would drop some."""
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS, formatter_class=_formatter)
    shared.add_argument(
        "-a", "--add", dest=place, metavar="IMAGE", action="append", help="a disk image or device (repeatable)"
    )
    shared.add_argument("--pool", metavar="NAME", help="the pool, by name or UUID, when there are several")
    shared.add_argument("--fs", metavar="NAME", help="subvolume (@home, id:257), dataset or snapshot")
    shared.add_argument("--no-log", action="store_true", help="as of the last commit, without what was synced after it")
    return shared


def _formatter(prog: str) -> argparse.HelpFormatter:
    """argparse's own, told the width: to find it out it would import every codec that Python has."""
    try:
        width = os.get_terminal_size().columns
    except OSError:
        width = 100
    return argparse.HelpFormatter(prog, width=width - 2)


def _fail(message: str) -> int:
    sys.stdout.flush()
    print(_shown(f"fsdrivers: error: {message}", sys.stderr), file=sys.stderr)
    return FAILED


def _warn(message: str) -> None:
    print(_shown(f"fsdrivers: {message}", sys.stderr), file=sys.stderr)


def _print(text: str) -> None:
    """A line of the result."""
    print(_shown(text, sys.stdout))


def _shown(text: str, stream: TextIO) -> str:
    """``text`` as it is; on a terminal without what could drive it, as names and labels on a disk may hold anything."""
    return printable(text, "") if stream.isatty() else text


# --- finding what was asked for -------------------------------------------------------------------


def _pools(options: argparse.Namespace) -> list[Pool]:
    """The pools on the named images; raises the first complaint when there is no pool at all."""
    complaints: list[FsError] = []
    devices: list[BlockDevice] = [FileDevice(path) for path in options.images]
    bounds.use(bounds.Wall(_warn))
    pools = assemble(devices, complaints.append)
    if options.pool is not None:
        # A UUID first: anybody may call a pool as another one is numbered.
        named = [pool for pool in pools if options.pool == pool.name]
        pools = [pool for pool in pools if options.pool == pool.uuid] or named
    if not pools:
        if complaints:
            raise complaints[0]
        wanted = f" called {options.pool}" if options.pool else ""
        raise NotAPool(f"no pool{wanted} found on {', '.join(options.images)}")
    for complaint in complaints:
        _warn(f"warning: {complaint}")
    for pool in pools:
        pool.use_log = not options.no_log
    return pools


class NotAPool(FsError):
    """None of the devices that were named carries a pool."""


def _filesystem(options: argparse.Namespace) -> Filesystem:
    """The tree that --pool and --fs name; raises Ambiguous when several pools could be meant."""
    pools = _pools(options)
    if len(pools) == 1:
        return pools[0].open(options.fs)
    for pool in pools:
        if pool.rivals:
            claims = ", ".join(" and ".join(device.name for device in one.devices) for one in (pool, *pool.rivals))
            raise Ambiguous(
                f"{pool.kind} pool {pool.name or pool.uuid} is there more than once, each without need of the others: "
                f"{claims}; give fewer images with -a"
            )
    if options.fs is None:
        names = ", ".join(f"{pool.kind} {pool.name or pool.uuid}" for pool in pools)
        raise Ambiguous(f"several pools found ({names}): name one with --pool")
    opened: list[Filesystem] = []
    for pool in pools:
        try:
            opened.append(pool.open(options.fs))
        except NotFound:
            continue
    if not opened:
        raise NotFound(options.fs)
    if len(opened) > 1:
        raise Ambiguous(f"several pools have a {options.fs}: name one with --pool")
    return opened[0]


def _report(filesystem: Filesystem) -> None:
    for line in filesystem.health.report():
        _warn(line)


# --- commands -------------------------------------------------------------------------------------


def _probe(options: argparse.Namespace) -> int:
    from fsdrivers.desk import probe  # commands import what they alone need: starting is half of a small read

    status = OK
    reports = []
    for pool in _pools(options):
        report, error = probe.describe(pool)
        reports.append(report)
        if error is not None:
            status = _fail(str(error))
    if options.json:
        import json

        print(json.dumps({"pools": reports}, indent=2))
    else:
        for line in (line for report in reports for line in probe.lines(report)):
            _print(line)
    return status


def _ls(options: argparse.Namespace) -> int:
    filesystem = _filesystem(options)
    node = filesystem.resolve(options.path)
    status = OK
    if filesystem.stat(node).type != DIRECTORY:
        _print_entry(filesystem, options.path, filesystem.resolve(options.path, follow=False), options.long)
    elif not options.recursive:
        for entry in sorted_entries(filesystem, node):
            _print_entry(filesystem, entry.name, entry.node, options.long)
    else:
        for found in walk(filesystem, options.path.rstrip("/") + "/"):
            if found.error is not None:
                status = _fail(f"{found.path}: {found.error}")
            if found.stat is not None:
                _print_entry(filesystem, found.path, found.node, options.long)
    _report(filesystem)
    return status


def _print_entry(filesystem: Filesystem, name: str, node: Node, long: bool) -> None:
    if not long:
        _print(name)
        return
    about = filesystem.stat(node)
    target = f" -> {filesystem.link_target(node)}" if about.type == SYMLINK else ""
    _print(f"{_columns(about)} {name}{target}")


def _columns(about: Stat) -> str:
    size = f"{about.rdev[0]}, {about.rdev[1]}" if about.type in ("char", "block") else str(about.size)
    mode = stat.filemode(about.st_mode & 0xFFFF)
    return f"{mode} {about.nlink:3} {about.uid:5} {about.gid:5} {size:>12} {when(about.mtime)}"


def _cat(options: argparse.Namespace) -> int:
    filesystem = _filesystem(options)
    out = sys.stdout.buffer
    for chunk in filesystem.open(options.path).chunks():
        out.write(chunk)
    _report(filesystem)
    return OK


def _cp(options: argparse.Namespace) -> int:
    from fsdrivers import copyout

    filesystem = _filesystem(options)
    complete = copyout.copy(filesystem, options.path, options.dest, options.recursive, _warn)
    _report(filesystem)
    return OK if complete else FAILED


def _inspect(options: argparse.Namespace) -> int:
    try:
        from fsdrivers.desk.inspect import command
    except ModuleNotFoundError as error:
        if error.name != "construct":
            raise
        return _fail("inspect needs the Python package construct: pip install construct")
    asked = command.Asked(options.images, lambda: _pools(options), options.details)
    try:
        right = command.run(options.what, asked, options.offsets, options.json, _print)
    except command.Usage as error:
        _fail(f"{error}; see fsdrivers inspect --help")
        return USAGE
    return OK if right else FAILED


def _mount(options: argparse.Namespace) -> int:
    from fsdrivers.desk import mount

    filesystem = _filesystem(options)
    mount.serve_at(filesystem, options.directory, _warn)
    _report(filesystem)
    return OK


def _tar(options: argparse.Namespace) -> int:
    from fsdrivers.desk import archive

    if sys.stdout.isatty():
        return _fail("a tar archive is nothing to look at: redirect it to a file or a pipe")
    filesystem = _filesystem(options)
    complete = archive.write(filesystem, options.path, sys.stdout.buffer, _warn)
    _report(filesystem)
    return OK if complete else FAILED


def _walk(options: argparse.Namespace) -> int:
    filesystem = _filesystem(options)
    show = to_json if options.json else to_text
    status = OK
    for found in walk(filesystem, options.path):
        fields = record(filesystem, found, options.sha256, xattrs=options.json)
        if "error" in fields:
            status = FAILED
        _print(show(fields))
    _report(filesystem)
    return status


def _verify(options: argparse.Namespace) -> int:
    from fsdrivers.damage import Totals

    status = OK
    for pool in _pools(options):
        totals = Totals()
        for damage in pool.verify(options.all_copies, totals):
            _print(to_json(damage._asdict()) if options.json else str(damage))
        for line in totals.report():
            _warn(f"{pool.name or pool.uuid}: {line}")
        if totals.lost:
            status = FAILED
    return status
