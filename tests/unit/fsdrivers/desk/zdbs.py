"""What zdb 2.3 says, taken apart, and what `fsdrivers inspect --json` says in the same words.

Source: cmd/zdb/zdb.c (dump_label, dump_uberblock, dump_object, dump_indirect), OpenZFS 2.3.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]


def value(found: Any) -> Any:
    return found["value"] if isinstance(found, dict) and "value" in found else found


def word(found: Any) -> str:
    """The name in "N (NAME)"."""
    text: str = found["words"]
    return text[text.index("(") + 1 : text.rindex(")")]


# --- labels and uberblocks ------------------------------------------------------------------------


def labels(text: str) -> dict[int, list[str]]:
    """The lines of each label that zdb -l shows, by number; the same ones are shown once."""
    found = {}
    for part in re.split(r"-{20,}\nLABEL \d+.*\n-{20,}\n", text)[1:]:
        body, _, rest = part.partition("    labels = ")
        for number in rest.splitlines()[0].split():
            found[int(number)] = [line.strip() for line in body.splitlines()]
    return found


def label(fields: Json) -> Iterator[str]:
    """The lines of zdb -l for one label."""
    for name, found in fields.items():
        if not name.startswith("zec_"):
            yield from _pair(name, found)


def _pair(name: str, found: Any) -> Iterator[str]:
    plain = value(found)
    if plain is True:
        yield name
    elif isinstance(plain, str):
        yield f"{name}: '{plain}'"
    elif isinstance(plain, list):
        yield from (f"{name}[{at}]: {one}" for at, one in enumerate(plain))
    elif not isinstance(plain, dict):
        yield f"{name}: {plain}"
    elif plain and all(key.isdecimal() for key in plain):
        for key, one in plain.items():
            yield f"{name}[{key}]:"
            yield from label(one)
    else:
        yield f"{name}:"
        yield from label(plain)


def uberblocks(text: str) -> dict[tuple[int, int], dict[str, str]]:
    """What zdb -lu says of each uberblock that is valid, by label and slot."""
    found = {}
    for part in re.split(r"    Uberblock\[", text)[1:]:
        number, _, body = part.partition("]")
        if body.startswith(" invalid"):
            continue
        fields = dict(re.findall(r"^\t(\w+) = (.*)$", body, re.MULTILINE))
        fields["raidz_reflow"] = re.search(r"raidz_reflow (.*)", body)[1]  # type: ignore[index]
        for one in re.search(r"labels = (.*)", body)[1].split():  # type: ignore[index]
            found[int(one), int(number)] = fields
    return found


def uberblock(fields: Json) -> dict[str, str]:
    """The same of one of ours."""
    when = time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(value(fields["ub_timestamp"])))
    mmp = value(fields["ub_mmp_config"])
    reflow = value(fields["ub_raidz_reflow_info"])
    found = {
        "magic": f"{value(fields['ub_magic']):016x}",
        "version": str(fields["ub_version"]),
        "txg": str(fields["ub_txg"]),
        "guid_sum": str(fields["ub_guid_sum"]),
        "timestamp": f"{value(fields['ub_timestamp'])} UTC = {when}",
        "bp": fields["ub_rootbp"]["words"],
        "mmp_magic": f"{value(fields['ub_mmp_magic']):016x}",
        "checkpoint_txg": str(fields["ub_checkpoint_txg"]),
        "raidz_reflow": f"state={reflow >> 55} off={(reflow & (1 << 55) - 1) << 9}",
    }
    if value(fields["ub_mmp_magic"]) == 0xA11CEA11:
        found["mmp_delay"] = str(fields["ub_mmp_delay"])
        found["mmp_valid"] = f"{mmp & 7:x}"
        if mmp & 1:
            found["mmp_write"] = str(mmp >> 8 & 0xFFFFFF)
        if mmp & 2:
            found["mmp_seq"] = str(mmp >> 32 & 0xFFFF)
        if mmp & 4:
            found["mmp_fail"] = str(mmp >> 48)
    return found


# --- objects --------------------------------------------------------------------------------------

_ROW = re.compile(r"^ +(-?\d+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +[\d.]+  (.+)$")
_BLOCK = re.compile(r"^ +([0-9a-f]+) +L(\d+) +(.*)$")


def objects(text: str) -> Iterator[tuple[str, int, list[str]]]:
    """(data set, object, lines) of what zdb -P -ddddd says; the lines of the head first."""
    dataset, number, lines = "", 0, []
    for line in text.splitlines():
        head = re.match(r"Dataset (\S+) \[", line)
        row = _ROW.match(line)
        if head or row or line.startswith("    Object  lvl"):
            if lines:
                yield dataset, number, lines
            lines = []
        if head:
            dataset = head[1]
        if row:
            number, lines = int(row[1]), [line]
        elif lines:
            lines.append(line)
    if lines:
        yield dataset, number, lines


def told(lines: list[str]) -> Json:
    """What zdb says of one object."""
    row = _ROW.match(lines[0])
    assert row is not None
    found: Json = {
        "levels": int(row[2]), "indirect": int(row[3]), "block": int(row[4]), "used": int(row[5]), "dnode": int(row[6]),
        "size": int(row[7]), "type": re.sub(r" \(.*\)$", "", row[8]), "blocks": [], "attributes": {}, "zap": {},
    }  # fmt: skip
    for line in lines[1:]:
        words = line.split()
        if "bonus  " in line and words[0].isdecimal():
            found["bonus"] = int(words[0]), line.partition("bonus  ")[2]
        elif line.startswith("\tdnode flags:"):
            found["flags"] = sorted(words[2:])
        elif line.startswith("\tdnode maxblkid:"):
            found["maxblkid"] = int(words[2])
        # Holes are listed too where they were born; they have neither a count nor a payload.
        elif (block := _BLOCK.match(line)) and ("F=" in block[3] or "EMBEDDED" in block[3]):
            found["blocks"].append((int(block[1], 16), int(block[2]), block[3]))
        elif known := re.match(
            r"^\t(uid|gid|atime|mtime|ctime|crtime|gen|mode|size|parent|links|pflags)\s+(.*)$", line
        ):
            found["attributes"][known[1]] = known[2].strip()
        elif known := re.match(r"^\t\t(\S+) = (\d+) (?:\(type: .*\))?$", line):
            found["zap"][known[1]] = int(known[2])
    return found


def ours(fields: Json) -> Json:
    """The same of what `inspect object` says."""
    levels, shift = fields["dn_nlevels"], value(fields["dn_indblkshift"])
    block = value(fields["dn_datablkszsec"]) * 512
    used = value(fields["dn_used"])
    used = (used + 256 if value(fields["dn_flags"]) & 1 else used * 512) & -512
    found: Json = {
        "levels": levels, "indirect": 1 << shift, "block": block, "used": used,
        "dnode": 512 * (1 + fields["dn_extra_slots"]), "size": (fields["dn_maxblkid"] + 1) * block,
        "type": word(fields["dn_type"]), "flags": sorted(filter("none".__ne__, word(fields["dn_flags"]).split(" | "))),
        "maxblkid": fields["dn_maxblkid"], "blocks": [], "attributes": {}, "zap": {},
    }  # fmt: skip
    if fields["dn_bonuslen"]:
        found["bonus"] = fields["dn_bonuslen"], word(fields["dn_bonustype"])
    for name, one in fields["blocks"].get("fields", {}).items():
        level, _, offset = name.partition(" ")
        found["blocks"].append((int(offset, 16), int(level[1:]), _brief(one)))
    bonus = fields.get("bonus", {}).get("fields", {})
    znode = any(name.startswith("zp_") for name in bonus)
    for name, key in _ATTRIBUTES.items():
        one = bonus.get(f"zp_{key}" if znode else f"ZPL_{key.upper()}")
        if one is not None:
            found["attributes"][name] = _attribute(name, value(one))
    for name, one in fields.get("zap", {}).get("fields", {}).items():
        if isinstance(one, int):
            found["zap"][name] = one & (1 << 48) - 1 if found["type"] == "ZFS directory" else one
    return found


_ATTRIBUTES = {name: name for name in ("uid", "gid", "atime", "mtime", "ctime", "crtime", "gen", "mode", "size",
                                       "parent", "links")} | {"pflags": "flags"}  # fmt: skip


def _attribute(name: str, found: Any) -> str:
    if name.endswith("time"):
        return time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(int(found.split(".")[0])))
    return f"{found:o}" if name == "mode" else f"{found:x}" if name == "pflags" else str(found)


def agree(theirs: Json, mine: Json) -> None:
    """Hold what zdb says of an object against what we say; it cuts long lines, and knows some ZAPs better."""
    assert len(theirs["blocks"]) == len(mine["blocks"])
    for wanted, got in zip(theirs["blocks"], mine["blocks"], strict=True):
        assert got[:2] == wanted[:2]
        assert got[2].startswith(wanted[2])
        assert len(wanted[2]) > 10
    assert theirs["zap"].items() <= mine["zap"].items()
    both = theirs["attributes"].keys() & mine["attributes"].keys()
    assert {name: mine["attributes"][name] for name in both} == {name: theirs["attributes"][name] for name in both}
    rest = {"blocks", "zap", "attributes"}
    assert {key: one for key, one in mine.items() if key not in rest} == {
        key: one for key, one in theirs.items() if key not in rest
    }


def _brief(pointer: Json) -> str:
    """A pointer as zdb lists those of an object: its first copy alone."""
    if pointer["embedded"] is not None:
        return f"EMBEDDED et={pointer['embedded']} {pointer['lsize']:x}L/{pointer['psize']:x}P B={pointer['birth']}"
    dva = pointer["dvas"][0]
    sums = ":".join(f"{one:016x}" for one in pointer["digest"])
    return (
        f"{dva['vdev']}:{dva['offset']:x}:{dva['asize']:x}{'G' * dva['gang']} "
        f"{pointer['lsize']:x}L/{pointer['psize']:x}P "
        f"F={pointer['fill']} B={pointer['birth']}/{pointer['physical_birth']} cksum={sums}"
    )
