"""Path B: what UEFI firmware starts: one EFI file with kernel, initramfs and command line, and disks that carry it.

At run time this package is a tool for the booted system (``python -m loader nvram``); what PID 1 itself needs of EFI
is in ``init``.  Knows what ``artefacts`` builds, and ``init`` up to its handover.
"""
