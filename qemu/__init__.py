"""The harness: machines in QEMU, the workshop that makes disks in a guest, and the distro images of the boot tests.

Knows artefacts; of the program only what was built of it.
"""
