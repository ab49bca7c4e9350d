"""How fast checksums, decompression and parity run, in MB of plain data a second: ``python tests/bench/algorithms.py``.

Each line is one algorithm: the form that drivers use, and the plain Python that runs where nothing is compiled.
Times are the best of several runs, so that a busy machine disturbs them little; records are 128 KiB.
"""

from __future__ import annotations

import sys
import zlib
from base64 import b64decode
from collections.abc import Callable
from json import loads
from pathlib import Path
from time import perf_counter
from types import ModuleType

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent / "unit")]

import zstandard  # noqa: E402
from native_forms import load  # noqa: E402
from samples import sample  # noqa: E402

from fsdrivers import parity  # noqa: E402
from fsdrivers.checksums import blake3, edonr, sha256, sha512_256, skein  # noqa: E402
from fsdrivers.checksums.crc32c import crc32c  # noqa: E402
from fsdrivers.checksums.xxhash64 import xxhash64  # noqa: E402
from fsdrivers.compression import zlib_, zstd  # noqa: E402

RECORD = 1 << 17  # bytes
SALT = bytes(range(32))


def rate(work: Callable[[], object], size: int, seconds: float = 0.2) -> float:
    """MB a second, of the best run of ``work`` on ``size`` bytes, trying for about ``seconds``."""
    best, end = float("inf"), perf_counter() + seconds
    while True:
        start = perf_counter()
        work()
        now = perf_counter()
        best = min(best, now - start)
        if now > end:
            return size / best / 1e6


def show(name: str, work: Callable[[], object], size: int, slow: Callable[[], object] | None = None) -> None:
    """One line; ``slow`` is the same work without compiled code."""
    line = f"{name:32} {rate(work, size):9.0f} MB/s"
    print(line + (f" {rate(slow, size):9.1f} MB/s uncompiled" if slow else ""), flush=True)


def checksums(data: bytes) -> None:
    """All checksums over one record."""
    show("crc32c, 4 KiB blocks", lambda: [crc32c(data[at : at + 4096]) for at in range(0, RECORD, 4096)], RECORD)
    show("xxhash64, 4 KiB blocks", lambda: [xxhash64(data[at : at + 4096]) for at in range(0, RECORD, 4096)], RECORD)
    show("sha256", lambda: sha256.digest(data), RECORD)
    fast, slow = load("fletcher", "compiled"), load("fletcher", "python")
    show("fletcher4", lambda: fast.fletcher4(data, False), RECORD, lambda: slow.fletcher4(data, False))
    show("fletcher4, big-endian", lambda: fast.fletcher4(data, True), RECORD, lambda: slow.fletcher4(data, True))
    show("fletcher2", lambda: fast.fletcher2(data, False), RECORD, lambda: slow.fletcher2(data, False))
    short = data[:4096]
    for name, work, module, function, native in (
        ("sha512/256", sha512_256.digest, sha512_256, "sha512_blocks", "hashes"),
        ("skein-512/256", lambda block: skein.digest(block, SALT), skein, "skein512_ubi", "hashes"),
        ("edon-r 512", lambda block: edonr.digest(block, SALT), edonr, "edonr512_blocks", "hashes"),
        ("blake3", lambda block: blake3.digest(block, SALT), blake3, "blake3_nodes", "blake3"),
    ):
        quick = rate(lambda work=work: work(data), RECORD)
        with_python = instead(module, function, getattr(load(native, "python"), function))
        plain = with_python(lambda work=work: rate(lambda: work(short), len(short)))
        print(f"{name:32} {quick:9.0f} MB/s {plain:9.1f} MB/s uncompiled", flush=True)


def instead(module: ModuleType, name: str, value: object) -> Callable[[Callable[[], float]], float]:
    """Something that runs a function while ``module.name`` is ``value``."""

    def run(work: Callable[[], float]) -> float:
        before = getattr(module, name)
        setattr(module, name, value)
        try:
            return work()
        finally:
            setattr(module, name, before)

    return run


def compression() -> None:
    """Decoders, over what the reference encoders made of text, of a mixture, and of zeros."""
    vectors = loads((HERE.parent / "unit/data/codecs.json").read_text())
    fast, slow = load("decoders", "compiled"), load("decoders", "python")
    for name in ("text:4096", "mixed:20000", "zeros:131072"):
        plain = sample(name)
        packed = zstandard.ZstdCompressor().compress(plain), zlib.compress(plain)
        show(f"zstd, {name}", lambda: zstd.decompress(packed[0], len(plain)), len(plain))  # noqa: B023
        show(f"zlib, {name}", lambda: zlib_.decompress(packed[1], len(plain)), len(plain))  # noqa: B023
        for codec in ("lzo1x", "lz4", "lzjb", "zle"):
            found = [v for v in vectors if v["codec"] == codec and v["plain"] == name]
            if found:
                data, size = b64decode(found[0]["data"]), len(plain)
                quick, plainly = getattr(fast, codec), getattr(slow, codec)
                show(
                    f"{codec}, {name}",
                    lambda quick=quick, data=data, size=size: quick(data, size),
                    size,
                    lambda plainly=plainly, data=data, size=size: plainly(data, size),
                )


def parities(data: bytes) -> None:
    """Reconstruction, in MB of whole stripes a second; the slower form is that of large integers."""
    half = len(data) // 2
    for count, missing, kept in ((2, 1, "P"), (4, 1, "P"), (4, 1, "Q"), (3, 2, "PQ"), (8, 2, "PQ"), (8, 3, "PQR")):
        columns = [data[at : at + half] for at in range(count)]
        checks = [c if "PQR"[i] in kept else None for i, c in enumerate(parity.generate(columns, 3))]
        lost = [None] * missing + columns[missing:]
        name = f"{count} columns, {missing} from {kept}"

        def work(lost: list[bytes | None] = lost, checks: list[bytes | None] = checks) -> object:
            return parity.reconstruct(lost, checks)

        size = count * half
        quick = rate(work, size)
        plain = instead(parity.gf256, "COMPILED", False)(lambda work=work, size=size: rate(work, size))
        print(f"{name:32} {quick:9.0f} MB/s {plain:9.1f} MB/s uncompiled", flush=True)


def main() -> None:
    """Print everything."""
    data = sample(f"noise:{RECORD}")
    checksums(data)
    compression()
    parities(data)


if __name__ == "__main__":
    main()
