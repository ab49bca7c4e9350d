"""Fragments of kernel configurations: what a line may look like, and that a dropped option is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from artefacts import kernel_build, kernel_config
from artefacts.kernel_config import Option
from artefacts.steps import BuildError

FRAGMENTS = sorted(kernel_build.FRAGMENTS.glob("*.config"))
VERSIONS = [(6, 1), (6, 12)]


def fragment(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "some.config"
    path.write_text(text)
    return path


def test_a_fragment_is_read(tmp_path: Path) -> None:
    path = fragment(
        tmp_path,
        '# A comment.\n\n## Part\nCONFIG_A=y  # because\nCONFIG_B=n # not that\nCONFIG_C="x y"   # text\n'
        "CONFIG_D=17 # n\n",
    )
    options = kernel_config.read(path, (6, 1))
    assert [option.line() for option in options] == [
        "CONFIG_A=y",
        "# CONFIG_B is not set",
        'CONFIG_C="x y"',
        "CONFIG_D=17",
    ]
    assert options[0].reason == "because"


def test_a_line_can_be_for_some_versions_only(tmp_path: Path) -> None:
    path = fragment(tmp_path, "CONFIG_OLD=y # until 6.8: its name\nCONFIG_NEW=y # since 6.9: the same, renamed\n")
    assert [option.name for option in kernel_config.read(path, (6, 1))] == ["CONFIG_OLD"]
    assert [option.name for option in kernel_config.read(path, (6, 8))] == ["CONFIG_OLD"]
    assert [option.name for option in kernel_config.read(path, (6, 9))] == ["CONFIG_NEW"]
    assert kernel_config.read(path, (7, 0)) == [Option("CONFIG_NEW", "y", "the same, renamed")]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("CONFIG_A=y", "some.config:1: wants"),
        ("CONFIG_A=y #", "some.config:1: wants"),
        ("A=y # reason", "some.config:1: wants"),
        ("CONFIG_A y # reason", "some.config:1: wants"),
        ("CONFIG_A=y # until 6.8:", "CONFIG_A has no reason"),
        ("CONFIG_A=y # one\nCONFIG_A=n # two", "some.config:2: CONFIG_A was given before"),
        ("", "has no options"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(BuildError) as caught:
        kernel_config.read(fragment(tmp_path, line), (6, 1))
    assert complaint in caught.value.message


def test_options_that_the_kernel_dropped_are_named_with_their_reasons() -> None:
    options = [
        Option("CONFIG_KEXEC_FILE", "y", "what all this is for"),
        Option("CONFIG_MODULES", "n", "built in"),
        Option("CONFIG_NR_CPUS", "512", "large machines"),
        Option("CONFIG_FUSE_FS", "y", "switch_root"),
        Option("CONFIG_ABSENT", "n", "absent is off"),
    ]
    config = kernel_config.in_force(
        "CONFIG_FUSE_FS=y\nCONFIG_MODULES=y\n# CONFIG_KEXEC_FILE is not set\nCONFIG_NR_CPUS=64\n"
    )
    with pytest.raises(BuildError) as caught:
        kernel_config.check(options, config, "the kernel 6.1")
    assert caught.value.message.splitlines() == [
        "the kernel 6.1 does not take 3 option(s) of the fragment:",
        "    CONFIG_KEXEC_FILE: wanted y, got n (what all this is for)",
        "    CONFIG_MODULES: wanted n, got y (built in)",
        "    CONFIG_NR_CPUS: wanted 512, got 64 (large machines)",
    ]
    kernel_config.check(options[3:], config, "the kernel 6.1")


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.name)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_fragments_of_the_project_can_be_read(path: Path, version: kernel_config.Version) -> None:
    assert kernel_config.read(path, version)


@pytest.mark.parametrize("architecture", kernel_build.ARCHITECTURES)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_slim_kernel_has_what_it_needs_and_no_driver_for_a_root(
    architecture: str, version: kernel_config.Version
) -> None:
    path = kernel_build.FRAGMENTS / f"disk-{architecture}.config"
    wanted = {option.name for option in kernel_config.read(path, version) if option.value != "n"}
    assert ("CONFIG_RANDOM_TRUST_CPU" in wanted) == (version < (6, 2)), "later kernels trust it anyway"
    for name in ("KEXEC_FILE", "CRYPTO_SHA256", "FUSE_FS", "OVERLAY_FS", "EFIVAR_FS", "VFAT_FS"):
        assert f"CONFIG_{name}" in wanted
    for name in ("EXT4_FS", "XFS_FS", "BTRFS_FS", "MODULES", "INET", "NETDEVICES", "E1000", "VIRTIO_NET"):
        assert f"CONFIG_{name}" not in wanted
