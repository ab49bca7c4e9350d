"""Running `fsdrivers inspect` and the real tools on the same images, for tests that compare them value by value.

    python tests/unit/fsdrivers/desk/inspected.py      writes what the tools say of committed images (GOLDEN)

The tools are those of Debian 13 (btrfs-progs 6.14, zdb 2.3), unpacked into the cache and run with their own libraries.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[4]
GOLDEN = PROJECT / "tests/unit/data/inspect"
if __name__ == "__main__":
    sys.path[:0] = [str(PROJECT), str(PROJECT / "tests/images")]

import progs  # noqa: E402
import zdbs  # noqa: E402
import zstandard  # noqa: E402

from artefacts import debian, started  # noqa: E402
from fsdrivers.block import FileDevice  # noqa: E402
from fsdrivers.desk.inspect import command  # noqa: E402
from fsdrivers.pool import Pool  # noqa: E402
from fsdrivers.pools import assemble  # noqa: E402

Json = dict[str, Any]


def inspect(*arguments: str, status: int | None = 0) -> list[Json]:
    """What the command says, as JSON."""
    return [json.loads(line) for line in run(*arguments, "--json", status=status).splitlines()]


def run(*arguments: str, status: int | None = 0) -> str:
    """The output of `fsdrivers inspect ARGUMENTS`, which must end with ``status`` (None: with any)."""
    command = [sys.executable, "-m", "fsdrivers", "inspect", *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, errors="surrogateescape")
    assert status is None or done.returncode == status, done.stderr
    return done.stdout


def tool(package: str, program: str, *arguments: str | Path, cwd: Path | None = None) -> str:
    """What a program of Debian 13 writes."""
    tree = debian.packages("trixie", [package], ("main", "contrib") if package.startswith("zfs") else ("main",))
    libraries = f"{tree}/usr/lib/x86_64-linux-gnu:{tree}/usr/lib"
    loader = [str(tree / "usr/lib64/ld-linux-x86-64.so.2"), "--library-path", libraries]
    path = next(str(tree / place / program) for place in ("usr/bin", "usr/sbin") if (tree / place / program).exists())
    command = [*loader, path, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, env={**os.environ, "TZ": "UTC"})
    return done.stdout.decode(errors="surrogateescape")


def start_image(path: Path) -> Path:
    """The small pool that is committed, unpacked to ``path``."""
    path.write_bytes(zstandard.ZstdDecompressor().decompress(started.POOL.read_bytes()))
    return path


# --- btrfs ----------------------------------------------------------------------------------------


def dump_super(image: Path) -> str:
    return tool("btrfs-progs", "btrfs", "inspect-internal", "dump-super", "-fa", image)


def dump_tree(*images: Path) -> str:
    return tool("btrfs-progs", "btrfs", "inspect-internal", "dump-tree", *images)


def tidy(text: str) -> Iterator[str]:
    """The lines of a tool without the white space that only lays them out."""
    text = re.sub(r"\|\s*\n\s*", "| ", text)
    text = re.sub(r"\(178 0x[0-9a-f]+\)", "(178)", text)  # a hash of what follows
    text = re.sub(r"(range start \d+) end \d+ length \d+", r"\1", text)
    for line in text.splitlines():
        if line.strip():
            yield " ".join(line.split())


def compare_supers(image: Path, text: str) -> int:
    """Holds `inspect super` against what dump-super said; how many lines that was."""
    wanted = [re.sub("device=.*", "device=IMAGE", line) for line in tidy(text)]
    got = [line for report in inspect("-a", str(image), "super") for line in progs.superblock(report, "IMAGE")]
    assert got == wanted
    return len(wanted)


def compare_trees(images: list[Path], text: str) -> int:
    """Holds `inspect tree` of every tree against what dump-tree said; how many lines that was."""
    disks = [word for image in images for word in ("-a", str(image))]
    count = 0
    for name, wanted in trees(text):
        got = [line for report in inspect(*disks, "tree", name) for line in progs.node(report)]
        assert got == wanted, f"tree {name}"
        count += len(wanted)
    return count


def trees(text: str) -> Iterator[tuple[str, list[str]]]:
    """What dump-tree said, by the names that `inspect tree` has for the trees."""
    names = {
        "ROOT_TREE": "root", "CHUNK_TREE": "chunk", "EXTENT_TREE": "extent", "DEV_TREE": "dev", "FS_TREE": "fs",
        "CSUM_TREE": "csum", "UUID_TREE": "uuid", "FREE_SPACE_TREE": "free-space", "DATA_RELOC_TREE": "data-reloc",
        "RAID_STRIPE_TREE": "raid-stripe", "BLOCK_GROUP_TREE": "block-group", "QUOTA_TREE": "quota",
    }  # fmt: skip
    name, found = "", []
    for line in tidy(text):
        head = re.fullmatch(r"[\w -]+ tree key \((\w+) ROOT_ITEM \d+\)", line)
        if line in ("root tree", "chunk tree") or head or line.startswith("total bytes"):
            if name:
                yield name, found
            owner = head[1] if head else line.upper().replace(" ", "_")
            name, found = names.get(owner, owner), []
            if line.startswith("total bytes"):
                return
        elif name:
            found.append(line)


# --- ZFS ------------------------------------------------------------------------------------------


def zdb(*arguments: str | Path) -> str:
    return tool("zfsutils-linux", "zdb", *arguments)


def zdb_label(disk: Path) -> str:
    return zdb("-l", disk) + zdb("-lu", disk)


def zdb_objects(disks: list[Path], name: str) -> str:
    return zdb("-P", "-e", "-p", disks[0].parent, "-ddddd", name)


class Asking:
    """Asks for many things about the same disks, in this process: each start would take longer than the answer."""

    def __init__(self, disks: list[Path]) -> None:
        self.names = [str(disk) for disk in disks]
        self.pools: list[Pool] = assemble([FileDevice(name) for name in self.names])

    def __call__(self, what: str, *arguments: str) -> list[Json]:
        said: list[str] = []
        command.run(what, command.Asked(self.names, lambda: self.pools, arguments), False, True, said.append)
        return [json.loads(line) for line in said]


def compare_labels(disks: list[Path], text: str) -> int:
    """Holds labels and uberblocks of the first disk against what zdb_label() said; how many uberblocks that was."""
    ask = Asking(disks)
    found = [report for report in ask("labels") if report["device"] == ask.names[0]]
    got = {int(report["structure"].split()[1]): list(zdbs.label(report["fields"])) for report in found}
    first, _, second = text.partition("    Uberblock[")
    assert got == zdbs.labels(first)
    rings = [report for report in ask("uberblocks") if report["device"] == ask.names[0]]
    mine = {
        (number, int(report["structure"].split()[1])): zdbs.uberblock(report["fields"])
        for report in rings
        for number in report["labels"]
    }
    assert mine == zdbs.uberblocks("    Uberblock[" + second)
    return len(mine)


def compare_objects(disks: list[Path], text: str) -> int:
    """Holds all objects of all datasets against what zdb_objects() said; how many those were."""
    ask = Asking(disks)
    count = 0
    for dataset, number, lines in zdbs.objects(text):
        if number >= 0:  # those below are the sums of who uses how much
            (report,) = ask("object", dataset, str(number))
            zdbs.agree(zdbs.told(lines), zdbs.ours(report["fields"]))
            count += 1
    listed = [report["object"] for report in ask("mos") if report["structure"] == "object"]
    assert listed == [number for dataset, number, _ in zdbs.objects(text) if dataset == "mos" and number > 0]
    return count


def golden(name: str) -> str:
    """A golden file."""
    return (
        zstandard.ZstdDecompressor().decompress((GOLDEN / f"{name}.zst").read_bytes()).decode(errors="surrogateescape")
    )


def main() -> None:
    """Write the golden files."""
    import tempfile

    import zfs_recipes

    def keep(name: str, text: str) -> None:
        packed = zstandard.ZstdCompressor(level=19).compress(text.encode(errors="surrogateescape"))
        (GOLDEN / f"{name}.zst").write_bytes(packed)

    GOLDEN.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        image = start_image(Path(scratch, "start.img"))
        keep("start.dump-super.txt", dump_super(image).replace(str(image), "start.img"))
        keep("start.dump-tree.txt", dump_tree(image))
    with tempfile.TemporaryDirectory() as scratch:
        disks = zfs_recipes.unpack("single", Path(scratch))
        keep("single.zdb-label.txt", zdb_label(disks[0]))
        keep("single.zdb-objects.txt", zdb_objects(disks, "tank"))


if __name__ == "__main__":
    main()
