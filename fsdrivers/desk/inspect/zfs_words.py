"""What numbers on a ZFS pool mean: types of objects, flags, block pointers, and which field has which words.

Sources: module/zfs/dmu.c:dmu_ot, dmu_ot_byteswap; include/sys/dmu.h; module/zfs/blkptr.c and include/sys/spa.h:
SNPRINTF_BLKPTR for the form of block pointers; OpenZFS 2.3.4.
"""

from __future__ import annotations

from typing import Any

from fsdrivers.desk.inspect import words
from fsdrivers.desk.inspect.report import Words
from fsdrivers.zfs import blkptr, checksum, compress, layout
from fsdrivers.zfs.blkptr import Blkptr

TYPES = (
    "unallocated", "object directory", "object array", "packed nvlist", "packed nvlist size", "bpobj", "bpobj header",
    "SPA space map header", "SPA space map", "ZIL intent log", "DMU dnode", "DMU objset", "DSL directory",
    "DSL directory child map", "DSL dataset snap map", "DSL props", "DSL dataset", "ZFS znode", "ZFS V0 ACL",
    "ZFS plain file", "ZFS directory", "ZFS master node", "ZFS delete queue", "zvol object", "zvol prop",
    "other uint8[]", "other uint64[]", "other ZAP", "persistent error log", "SPA history", "SPA history offsets",
    "Pool properties", "DSL permissions", "ZFS ACL", "ZFS SYSACL", "FUID table", "FUID table size",
    "DSL dataset next clones", "scan work queue", "ZFS user/group/project used", "ZFS user/group/project quota",
    "snapshot refcount tags", "DDT ZAP algorithm", "DDT statistics", "System attributes", "SA master node",
    "SA attr registration", "SA attr layouts", "scan translations", "deduplicated block", "DSL deadlist map",
    "DSL deadlist map hdr", "DSL dir clones", "bpobj subobj",
)  # fmt: skip
ZAPS = frozenset(
    (1, 13, 14, 15, 20, 21, 22, 24, 27, 28, 31, 32, 37, 38, 39, 40, 41, 42, 43, 45, 46, 47, 48, 50, 52)
)  # fmt: skip
"""Types whose data is a ZAP."""
_NEW = ("uint8", "uint16", "uint32", "uint64", "zap", "dnode", "objset", "znode", "oldacl", "acl")
_NEW_ZAP = 4
_COMPRESSIONS = {**dict(enumerate(compress.NAMES)), compress.OFF: "uncompressed"}
_COPIES = ("none", "single", "double", "triple")
_OBJSETS = {0: "none", 1: "META", 2: "ZPL", 3: "ZVOL", 4: "other", 5: "any"}


def type_name(number: int) -> str:
    """What a type of object is called."""
    if number & layout.OT_NEWTYPE:
        new = number & 0x1F  # DMU_OT_BYTESWAP_MASK
        return _NEW[new] if new < len(_NEW) else f"unknown type {number:#x}"
    return TYPES[number] if number < len(TYPES) else f"unknown type {number:#x}"


def is_zap(number: int) -> bool:
    """Whether objects of this type have a ZAP in their data."""
    return number & 0x1F == _NEW_ZAP if number & layout.OT_NEWTYPE else number in ZAPS


def pointer_text(pointer: Blkptr, raw: bytes) -> str:
    """A block pointer as zdb writes it; ``raw`` is the pointer as it is on the disk."""
    level = f"[L{pointer.level} {type_name(pointer.type)}]"
    packed = _COMPRESSIONS.get(pointer.compress, f"compression {pointer.compress}")
    if pointer.embedded == layout.EMBEDDED_REDACTED:
        return f"REDACTED {level} size={pointer.lsize:x}L birth={pointer.birth}L"
    if pointer.embedded is not None:
        sizes = f"size={pointer.lsize:x}L/{pointer.psize:x}P"
        return f"EMBEDDED {level} et={pointer.embedded} {packed} {sizes} birth={pointer.birth}L"
    if pointer.hole:
        if not any(raw):
            return "HOLE"
        return f"HOLE {level} size={pointer.lsize:x}L birth={pointer.birth}L"
    places = " ".join(f"DVA[{at}]=<{dva.vdev}:{dva.offset:x}:{dva.asize:x}>" for at, dva in enumerate(pointer.dvas))
    if pointer.crypt:
        locked = "encrypted" if not pointer.level and pointer.type != layout.OT_OBJSET else "authenticated"
    else:
        locked = "unencrypted"
    marks = (
        checksum.name(pointer.checksum), packed, locked, "LE" if pointer.order == "<" else "BE",
        "gang" if any(dva.gang for dva in pointer.dvas) else "contiguous",
        "dedup" if _prop(raw, pointer) >> 62 & 1 else "unique", _COPIES[min(len(pointer.dvas), 3)],
    )  # fmt: skip
    sums = ":".join(f"{word:016x}" for word in pointer.digest)
    return (
        f"{places} {level} {' '.join(marks)} size={pointer.lsize:x}L/{pointer.psize:x}P "
        f"birth={pointer.birth}L/{pointer.physical_birth}P fill={pointer.fill} cksum={sums}"
    )


def _prop(raw: bytes, pointer: Blkptr) -> int:
    """blk_prop, in whichever order makes it what was decoded."""
    for order in (layout.LITTLE, layout.BIG):
        if blkptr.parse(raw, 0, order) == pointer:
            prop: int = layout.BLKPTR[order].unpack(raw)[6]
            return prop
    return 0


def pointer(order: str) -> Words:
    """A block pointer in a structure of byte order ``order``."""

    def words_of(raw: bytes) -> tuple[object, str]:
        found = blkptr.parse(raw, 0, order)
        value = {
            "dvas": [dva._asdict() for dva in found.dvas],
            **{name: getattr(found, name) for name in (
                "lsize", "psize", "compress", "checksum", "type", "level", "crypt", "birth", "physical_birth", "fill",
                "embedded",
            )},
            "digest": list(found.digest),
        }  # fmt: skip
        return {**value, "words": pointer_text(found, raw)}, pointer_text(found, raw)

    return words_of


def _type(value: int) -> tuple[object, str]:
    return value, f"{value} ({type_name(value)})"


def _mmp(value: int) -> tuple[object, str]:
    parts = []
    if value & 1:
        parts.append(f"interval {value >> 8 & 0xFFFFFF} ms")
    if value & 2:
        parts.append(f"sequence {value >> 32 & 0xFFFF}")
    if value & 4:
        parts.append(f"fail intervals {value >> 48 & 0xFFFF}")
    return value, f"{value:#x} ({', '.join(parts) or 'nothing valid'})"


def _reflow(value: int) -> tuple[object, str]:
    # uberblock_impl.h:RRSS_GET_STATE, RRSS_GET_OFFSET
    return value, f"{value:#x} (state {value >> 55}, offset {(value & (1 << 55) - 1) << 9})"


def uberblock(order: str) -> dict[str, Words]:
    return {
        "ub_magic": words.magic(layout.UBERBLOCK_MAGIC),
        "ub_timestamp": words.seconds,
        "ub_rootbp": pointer(order),
        "ub_mmp_magic": words.hexadecimal,
        "ub_mmp_config": _mmp,
        "ub_raidz_reflow_info": _reflow,
    }


DNODE: dict[str, Words] = {
    "dn_type": _type,
    "dn_bonustype": _type,
    "dn_checksum": words.named(dict(enumerate(checksum.NAMES))),
    "dn_compress": words.named(dict(enumerate(compress.NAMES))),
    "dn_flags": words.flags({0: "USED_BYTES", 1: "USERUSED_ACCOUNTED", 2: "SPILL_BLKPTR", 3: "USEROBJUSED_ACCOUNTED"}),
    "dn_indblkshift": lambda value: (value, f"{value} ({1 << value} bytes)" if value < 64 else str(value)),
    "dn_datablkszsec": lambda value: (value, f"{value} ({value << layout.SECTOR_SHIFT} bytes)"),
}
OBJSET: dict[str, Words] = {
    "os_type": words.named(_OBJSETS),
    "os_flags": words.flags({0: "USERACCOUNTING_COMPLETE", 1: "USEROBJACCOUNTING_COMPLETE",
                             2: "PROJECTQUOTA_COMPLETE"}),
}  # fmt: skip
DSL_DIR: dict[str, Words] = {
    "dd_creation_time": words.seconds, "dd_flags": words.flags({0: "USED_BREAKDOWN"}),
}  # fmt: skip
ZNODE: dict[str, Words] = {
    **dict.fromkeys(("zp_atime", "zp_mtime", "zp_ctime", "zp_crtime"), words.pair_of_times),
    "zp_mode": words.octal_mode,
    "zp_flags": words.hexadecimal,
}


def dsl_dataset(order: str) -> dict[str, Words]:
    return {
        "ds_creation_time": words.seconds,
        "ds_flags": words.flags({0: "INCONSISTENT", 1: "NOPROMOTE", 2: "UNIQUE_ACCURATE", 3: "DEFER_DESTROY",
                                 16: "CI_DATASET"}),
        "ds_bp": pointer(order),
    }  # fmt: skip


def zil_header(order: str) -> dict[str, Words]:
    return {"zh_log": pointer(order), "zh_flags": words.flags({0: "REPLAY_NEEDED", 1: "CLAIM_LR_SEQ_VALID"})}


def attribute(name: str, value: int) -> tuple[object, str]:
    """A system attribute that is a number."""
    shown: dict[str, Any] = {"ZPL_MODE": words.octal_mode, "ZPL_FLAGS": words.hexadecimal}
    found: tuple[object, str] = shown[name](value) if name in shown else (value, str(value))
    return found
