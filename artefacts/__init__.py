"""Building blocks of build.py and of the test harness: everything that makes files on the host.

This package knows ELF files, kernel modules, cpio archives and packages of a distribution.  It imports nothing
from ``fsdrivers``, ``init`` or ``loader``: to the build these are sources to compile, not code to call.
"""
