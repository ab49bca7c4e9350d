"""What `fsdrivers inspect --json` says, written as btrfs-progs 6.14 writes it: compared line by line with theirs.

Source: btrfs-progs, kernel-shared/print-tree.c (btrfs_print_leaf, btrfs_print_tree, btrfs_print_superblock), v6.14.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
COMPRESSIONS = {0: "none", 1: "zlib", 2: "lzo", 3: "zstd"}


def number(value: Any) -> Any:
    """A value without its words."""
    return value["value"] if isinstance(value, dict) else value


def bits(value: Any) -> str:
    """The names of flags, as words have them."""
    found: str = value["words"]
    return found[found.index("(") + 1 : found.rindex(")")]


def profile(value: Any) -> str:
    """The type of a chunk; their names of profiles are in capitals, but for that of none."""
    *kinds, name = bits(value).split("|")
    return "|".join([*kinds, name if name == "single" else name.upper()])


def word(value: Any) -> str:
    """The name in "N (NAME)"."""
    return bits(value) if isinstance(value, dict) else str(value)


def owner(value: Any) -> str:
    return bits(value) if isinstance(value, dict) else str(value)


def moment(text: Any) -> str:
    seconds, nanoseconds = number(text).split(".")
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(int(seconds)))
    return f"{seconds}.{int(nanoseconds)} ({when})"


def pieces(item: Json) -> list[Json]:
    """The numbered structures of an item, in order."""
    return [item[key] for key in sorted((key for key in item if key.isdecimal()), key=int)]


# --- superblocks ----------------------------------------------------------------------------------

_SUPER = (
    "bytenr", "flags", "magic", "fsid", "metadata_uuid", "label", "generation", "root", "sys_array_size",
    "chunk_root_generation", "root_level", "chunk_root", "chunk_root_level", "log_root",
    "log_root_transid (deprecated)", "log_root_level", "total_bytes", "bytes_used", "sectorsize", "nodesize",
    "leafsize (deprecated)", "stripesize", "root_dir", "num_devices", "compat_flags", "compat_ro_flags",
    "incompat_flags", "cache_generation", "uuid_tree_generation",
)  # fmt: skip
_OURS = {
    "sys_array_size": "sys_chunk_array_size", "log_root_transid (deprecated)": "log_root_transid",
    "leafsize (deprecated)": "leafsize", "root_dir": "root_dir_objectid",
}  # fmt: skip
_DEVICE = (
    "uuid", "fsid", "type", "total_bytes", "bytes_used", "io_align", "io_width", "sector_size", "devid", "dev_group",
    "seek_speed", "bandwidth", "generation",
)  # fmt: skip


def superblock(report: Json, name: str) -> Iterator[str]:
    """dump-super's lines for one copy, each without the white space around it."""
    found = report["fields"]
    yield f"superblock: bytenr={report['offset']}, device={name}"
    yield "-" * 57
    yield f"csum_type {number(found['csum_type'])} ({word(found['csum_type'])})"
    yield f"csum_size {len(number(found['csum'])) // 2}"
    mark = "match" if "(right)" in found["csum"]["words"] else "DON'T MATCH"
    yield f"csum 0x{number(found['csum'])} [{mark}]"
    for theirs in _SUPER:
        value = found[_OURS.get(theirs, theirs)]
        if theirs == "magic":
            yield f"magic {number(value)} [{'match' if 'right' in value['words'] else 'DON T MATCH'}]"
        elif theirs.endswith("flags"):
            yield f"{theirs} {number(value):#x}"
            if number(value):
                yield f"( {' | '.join(bits(value).split(' | '))} )"
        else:
            yield f"{theirs} {number(value)}".strip()
    device = found["dev_item"]
    for field in _DEVICE:
        mark = " [match]" if field == "fsid" and device["fsid"] == found["fsid"] else ""
        yield f"dev_item.{field} {number(device[field])}{mark}"
    yield "sys_chunk_array[2048]:"
    for index, entry in enumerate(pieces(found["sys_chunk_array"])):
        yield f"item {index} key {entry['words']}"
        yield from chunk(entry["fields"])
    yield "backup_roots[4]:"
    for index, entry in enumerate(pieces(found["super_roots"])):
        yield f"backup {index}:"
        for tree in ("tree", "chunk", "extent", "fs", "dev", "csum"):
            label = f"backup_{tree}_root" if tree != "csum" else "csum_root"
            yield (
                f"{label}: {entry[f'{tree}_root']} gen: {entry[f'{tree}_root_gen']} "
                f"level: {entry[f'{tree}_root_level']}"
            )
        for field in ("total_bytes", "bytes_used", "num_devices"):
            yield f"backup_{field}: {entry[field]}"


# --- trees ----------------------------------------------------------------------------------------


def node(report: Json) -> Iterator[str]:
    """dump-tree's lines for one node."""
    found = report["fields"]
    kind, address, count = report["structure"], report["address"], found["nritems"]
    items = [found[f"{'item' if kind == 'leaf' else 'pointer'} {index}"] for index in range(count)]
    head = f"{kind} {address}"
    if kind == "leaf":
        size = report["size"]
        free = size - 0x65 - sum(25 + number(item["fields"]["itemsize"]) for item in items)
        yield f"{head} items {count} free space {free} generation {found['generation']} owner {owner(found['owner'])}"
    else:
        free = (report["size"] - 0x65) // 33 - count
        yield (
            f"{head} level {found['level']} items {count} free space {free} generation {found['generation']} "
            f"owner {owner(found['owner'])}"
        )
    flags, _, rest = found["flags"]["words"].partition(" (")
    yield f"{head} flags {flags}({rest}"
    yield f"fs uuid {found['fsid']}"
    yield f"chunk uuid {found['chunk_tree_uuid']}"
    for index, item in enumerate(items):
        inner = item["fields"]
        if kind == "node":
            yield f"key {item['words']} block {inner['blockptr']} gen {inner['generation']}"
            continue
        yield f"item {index} key {item['words']} itemoff {inner['itemoff']} itemsize {inner['itemsize']}"
        yield from _ITEMS.get(item["value"][1], lambda inner, key: iter(()))(inner, item["value"])


def _inode(inner: Json, key: list[int]) -> Iterator[str]:
    yield (f"generation {inner['generation']} transid {inner['transid']} size {inner['size']} nbytes {inner['nbytes']}")
    yield (
        f"block group {inner['block_group']} mode {number(inner['mode']):o} links {inner['nlink']} "
        f"uid {inner['uid']} gid {inner['gid']} rdev {inner['rdev']}"
    )
    flags = bits(inner["flags"]).replace(" | ", "|")
    yield f"sequence {inner['sequence']} flags {number(inner['flags']):#x}({flags})"
    for name in ("atime", "ctime", "mtime", "otime"):
        yield f"{name} {moment(inner[name])}"


def _inode_ref(inner: Json, key: list[int]) -> Iterator[str]:
    for one in pieces(inner):
        yield f"index {one['index']} namelen {one['name_len']} name: {one['name']}"


def _dir(inner: Json, key: list[int]) -> Iterator[str]:
    for one in pieces(inner):
        yield f"location key {one['location']['words']} type {word(one['type'])}"
        yield f"transid {one['transid']} data_len {one['data_len']} name_len {one['name_len']}"
        yield f"name: {one['name']}"
        if one["data_len"]:
            yield f"data {bytes.fromhex(one['data']).decode(errors='surrogateescape')}"


def _root(inner: Json, key: list[int]) -> Iterator[str]:
    yield " ".join(
        f"{name} {inner[name]}" for name in ("generation", "root_dirid", "bytenr", "byte_limit", "bytes_used")
    )
    flags = f"{number(inner['flags']):#x}({bits(inner['flags'])})"
    yield f"last_snapshot {inner['last_snapshot']} flags {flags} refs {inner['refs']}"
    drop = inner["drop_progress"]
    assert (drop["objectid"], number(drop["type"]), drop["offset"]) == (0, 0, 0)
    yield f"drop_progress key (0 UNKNOWN.0 0) drop_level {inner['drop_level']}"
    yield f"level {inner['level']} generation_v2 {inner['generation_v2']}"
    for name in ("uuid", "parent_uuid", "received_uuid"):
        yield f"{name} {inner[name]}"
    yield " ".join(f"{name} {inner[name]}" for name in ("ctransid", "otransid", "stransid", "rtransid"))
    for name in ("ctime", "otime", "stime", "rtime"):
        yield f"{name} {moment(inner[name])}"


def _root_ref(inner: Json, key: list[int]) -> Iterator[str]:
    for one in pieces(inner):
        kind = "ref" if key[1] == 156 else "backref"
        yield f"root {kind} key dirid {one['dirid']} sequence {one['sequence']} name {one['name']}"


def _extent_item(inner: Json, key: list[int]) -> Iterator[str]:
    flags = bits(inner["flags"]).replace(" | ", "|")
    yield f"refs {inner['refs']} gen {inner['generation']} flags {flags}"
    if key[1] == 169:
        yield f"tree block skinny level {inner['level']}"
    for index in range(1 << 16):
        ref = inner.get(f"ref {index}")
        if ref is None:
            return
        kind = number(ref["type"])
        if kind == 178:
            yield (
                f"(178) extent data backref root {owner(ref['root'])} objectid {ref['objectid']} "
                f"offset {ref['offset']} count {ref['count']}"
            )
        elif kind == 184:
            yield f"(184 {ref['offset']:#x}) shared data backref parent {ref['offset']} count {ref['count']}"
        elif kind == 176:
            yield f"(176 {ref['offset']:#x}) tree block backref root {TREES.get(ref['offset'], ref['offset'])}"
        else:
            yield f"(182 {ref['offset']:#x}) shared block backref parent {ref['offset']}"


TREES = {1: "ROOT_TREE", 2: "EXTENT_TREE", 3: "CHUNK_TREE", 4: "DEV_TREE", 5: "FS_TREE", 7: "CSUM_TREE",
         9: "UUID_TREE", 10: "FREE_SPACE_TREE", 12: "RAID_STRIPE_TREE", 2**64 - 9: "DATA_RELOC_TREE"}  # fmt: skip


def _extent(inner: Json, key: list[int]) -> Iterator[str]:
    yield f"generation {inner['generation']} type {number(inner['type'])} ({word(inner['type'])})"
    kind = f"compression {number(inner['compression'])} ({word(inner['compression'])})"
    if "inline" in inner:
        yield f"inline extent data size {inner['itemsize'] - 21} ram_bytes {inner['ram_bytes']} {kind}"
        return
    name = "prealloc" if number(inner["type"]) == 2 else "extent"
    yield f"{name} data disk byte {inner['disk_bytenr']} nr {inner['disk_num_bytes']}"
    ram = f" ram {inner['ram_bytes']}" if name == "extent" else ""
    yield f"{name} data offset {inner['offset']} nr {inner['num_bytes']}{ram}"
    if name == "extent":
        yield f"extent {kind}"


def _block_group(inner: Json, key: list[int]) -> Iterator[str]:
    yield f"block group used {inner['used']} chunk_objectid {inner['chunk_objectid']} flags {profile(inner['flags'])}"


def _dev_extent(inner: Json, key: list[int]) -> Iterator[str]:
    yield f"dev extent chunk_tree {inner['chunk_tree']}"
    yield " ".join(f"{name} {inner[name]}" for name in ("chunk_objectid", "chunk_offset", "length"))
    yield f"chunk_tree_uuid {inner['chunk_tree_uuid']}"


def _dev(inner: Json, key: list[int]) -> Iterator[str]:
    for names in (
        ("devid", "total_bytes", "bytes_used"), ("io_align", "io_width", "sector_size", "type"),
        ("generation", "start_offset", "dev_group"), ("seek_speed", "bandwidth"), ("uuid",), ("fsid",),
    ):  # fmt: skip
        yield " ".join(f"{name} {inner[name]}" for name in names)


def chunk(inner: Json) -> Iterator[str]:
    """A chunk and its stripes."""
    yield (
        f"length {inner['length']} owner {number(inner['owner'])} stripe_len {inner['stripe_len']} "
        f"type {profile(inner['type'])}"
    )
    yield " ".join(f"{name} {inner[name]}" for name in ("io_align", "io_width", "sector_size"))
    yield f"num_stripes {inner['num_stripes']} sub_stripes {inner['sub_stripes']}"
    for index in range(inner["num_stripes"]):
        one = inner[f"stripe {index}"]
        yield f"stripe {index} devid {one['devid']} offset {one['offset']}"
        yield f"dev_uuid {one['dev_uuid']}"


def _stats(inner: Json, key: list[int]) -> Iterator[str]:
    yield f"persistent item objectid DEV_STATS offset {key[2]}"
    yield "device stats"
    errors = " ".join(f"{name} {inner[name]}" for name in ("write_errs", "read_errs", "flush_errs", "corruption_errs"))
    yield f"{errors} generation {inner['generation_errs']}"


def _csum(inner: Json, key: list[int]) -> Iterator[str]:
    # How much it covers depends on the checksum's size; the caller's lines are cut after the start.
    yield f"range start {key[2]}"


def _free_space(inner: Json, key: list[int]) -> Iterator[str]:
    yield f"free space info extent count {inner['extent_count']} flags {number(inner['flags'])}"


def _stripes(inner: Json, key: list[int]) -> Iterator[str]:
    for index, one in enumerate(pieces(inner)):
        yield f"stripe {index} devid {one['devid']} physical {one['physical']}"


def _subvolumes(inner: Json, key: list[int]) -> Iterator[str]:
    yield f"subvol_id {inner['subvolume 0']}"


_ITEMS = {
    1: _inode, 12: _inode_ref, 24: _dir, 84: _dir, 96: _dir, 108: _extent, 128: _csum, 132: _root, 144: _root_ref,
    156: _root_ref, 168: _extent_item, 169: _extent_item, 192: _block_group, 198: _free_space, 204: _dev_extent,
    199: lambda inner, key: iter(("free space extent",)),
    216: _dev, 228: lambda inner, key: chunk(inner), 230: _stripes, 249: _stats, 251: _subvolumes,
}  # fmt: skip
