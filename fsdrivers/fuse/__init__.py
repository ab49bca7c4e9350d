"""A tree of a driver as a mount of the kernel: a server that speaks the kernel's FUSE protocol itself.

``attach`` mounts, ``Server`` answers.  Nothing here needs libfuse; mount(2) is passed in, as the init and the desk
tool reach it in different ways.  Knows trees as fsdrivers.filesystem has them; no driver, and neither of its users.
"""

from fsdrivers.fuse.connection import FSTYPE, SystemMount, attach, mount_data, set_read_ahead
from fsdrivers.fuse.server import Server, serve_all

__all__ = ["FSTYPE", "Server", "SystemMount", "attach", "mount_data", "serve_all", "set_read_ahead"]
