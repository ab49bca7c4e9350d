"""Packages of Debian and its relatives, fetched into the cache and unpacked, without touching the host.

mmdebstrap makes an apt root of its own for the suite: its mirror list and keys are independent of the host's, so that
an Ubuntu machine can fetch Debian's kernel.  Packages are only unpacked, never configured: no maintainer script runs,
hence neither root rights nor user namespaces are needed.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from artefacts import cache, network
from artefacts.counters import Apt
from artefacts.steps import BuildError, run, step

KERNEL_PACKAGES = r"linux-(image|binary|modules)-[0-9].*"
"""The packages of a kernel's version.  Ubuntu's has no modules; from Debian 14 on linux-binary has the image."""

_FOLLOWED = 3  # steps: from a metapackage to the version's own, to the image and the modules that it is made of

_HINT = "apt install mmdebstrap debian-archive-keyring; then check the network"


class Kernel(NamedTuple):
    """A kernel on the host's disk."""

    vmlinuz: Path
    """The bzImage (or, on arm64, the Image)."""
    modules: Path
    """The directory ``lib/modules/RELEASE``; it need not have a ``modules.dep``."""
    release: str
    """What ``uname -r`` says under this kernel."""


def packages(
    suite: str,
    names: Sequence[str],
    components: Sequence[str] = ("main",),
    *,
    architecture: str = "amd64",
    dependencies: bool = True,
    follow: str = "",
) -> Path:
    """Fetch packages and return the cached tree that they unpack into.  Treat the tree as read-only.

    With ``dependencies`` the tree gets everything they depend on too (Recommends are left out).  Without, exactly
    ``names``, plus what these depend on, up to three steps away, as far as the regular expression ``follow`` matches it
    in full: that is how a metapackage leads to the packages of the current version.

    The cache does not look for newer versions; remove the entry to get them.  Raises BuildError.
    """
    wanted = sorted(names)
    hashed = cache.key(suite, wanted, sorted(components), architecture, dependencies, follow)
    label = f"{suite}-{wanted[0]}-{hashed}"
    log = cache.root() / "debian" / f"{label}.log"

    def make(work: Path) -> None:
        apt_root = work / "apt-root"
        with step(f"fetching {_few(wanted)} of {suite}", log, Apt()):
            run(
                [
                    "mmdebstrap",
                    "--verbose",  # what apt fetches, for the count
                    "--mode=chrootless",
                    "--skip=check/chrootless",  # it guards the host against maintainer scripts: none is run
                    f"--architectures={architecture}",
                    f"--components={','.join(components)}",
                    "--format=directory",
                    *network.for_mmdebstrap(),
                    *(
                        ["--variant=extract", f"--include={','.join(wanted)}"]
                        if dependencies
                        else ["--variant=custom", f"--customize-hook={_download_script(wanted, follow)}"]
                    ),
                    suite,
                    str(apt_root),
                ],
                log=log,
                hint=_HINT,
                failure=f"{', '.join(wanted)} of {suite} could not be fetched",
            )
            if not dependencies:
                for archive in sorted((apt_root / "debs").glob("*.deb")):
                    run(["dpkg-deb", "-x", archive, work / "tree"], log=log, hint="apt install dpkg")
                shutil.rmtree(apt_root)
            else:
                apt_root.rename(work / "tree")

    return cache.entry("debian", label, make) / "tree"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{names[0]}, {names[1]} and {len(names) - 2} more packages"


def kernel(suite: str = "bookworm", package: str = "linux-image-cloud-amd64", architecture: str = "amd64") -> Kernel:
    """The current stock kernel of ``suite``: of Debian's metapackage ``package`` or of a linux-image package.

    Raises BuildError.
    """
    tree = packages(suite, [package], architecture=architecture, dependencies=False, follow=KERNEL_PACKAGES)
    return kernel_in(tree)


def kernel_in(tree: Path) -> Kernel:
    """The newest kernel of an unpacked tree (or of the host, for ``/``).  Raises BuildError if there is none."""
    found: dict[str, Kernel] = {}
    for modules in [*(tree / "usr/lib/modules").glob("*"), *(tree / "lib/modules").glob("*")]:
        # From Debian 14 on the package's image is beside the modules, and gets into /boot when it is configured.
        for image in (tree / "boot" / f"vmlinuz-{modules.name}", modules / "vmlinuz"):
            if image.is_file():
                found.setdefault(modules.name, Kernel(image, modules, modules.name))
    if not found:
        raise BuildError(f"{tree} has no kernel with its lib/modules directory")
    return max(
        found.values(), key=lambda one: [(int(n or 0), text) for n, text in re.findall(r"(\d*)(\D*)", one.release)]
    )


def _download_script(names: Sequence[str], follow: str) -> str:
    """The shell script that mmdebstrap runs with its apt configuration: downloads into ``debs/`` of the apt root."""
    listed = shlex.join(names)
    lines = [
        "set -eu",
        'export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"',
        'mkdir "$1/debs"',
        'cd "$1/debs"',
        f"apt-get download {listed}",
    ]
    if follow:
        pattern = shlex.quote(rf"s/^ *Depends: \({_basic_regex(follow)}\)$/\1/p")
        lines += [
            f"more={shlex.quote(listed)}",
            f"for step in {' '.join(map(str, range(1, _FOLLOWED + 1)))}; do",
            f"    more=$(apt-cache depends $more | sed -n {pattern} | sort -u)",
            '    test -n "$more" || break',
            "    apt-get download $more",
            "done",
        ]
    return "\n".join(lines)


def _basic_regex(extended: str) -> str:
    """GNU sed's basic spelling of the groups and alternatives in ``extended``."""
    return re.sub(r"[()|]", lambda found: "\\" + found.group(), extended)
