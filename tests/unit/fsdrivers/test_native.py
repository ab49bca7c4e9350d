"""The native modules as such; what they compute is tested where it is used."""

import subprocess
import sys

import pytest
from native_forms import FORMS, load, names

from fsdrivers.native import core


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", names())
def test_both_forms_are_there_and_are_what_they_say(name, form):
    module = load(name, form)
    assert str(module.__file__).endswith(".so" if form == "compiled" else ".py")


def test_there_are_native_modules():
    assert {"blake3", "decoders", "fletcher", "gf256", "hashes"} <= set(names())


def test_cores_come_without_their_packages():
    """The packages' own start-up is what core() is there to avoid."""
    code = (
        "import sys\n"
        "import fsdrivers.checksums.crc32c, fsdrivers.checksums.xxhash64, fsdrivers.compression.zstd\n"
        "slow = {'argparse', 'importlib.metadata', 'zstandard', 'crc32c', 'logging', 'dataclasses', 'cython'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_missing_core_is_named():
    with pytest.raises(ImportError, match="no_such_package"):
        core("_no_such", "no_such_package._core")
    with pytest.raises(ImportError, match=r"zstandard\._nothing"):
        core("_no_such", "zstandard._nothing")
