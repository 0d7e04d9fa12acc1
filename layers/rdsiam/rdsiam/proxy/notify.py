"""The state of the proxy for systemd (`Type=notify`), by the protocol of sd_notify(3)."""

import os
import socket
from contextlib import suppress

__all__ = ["READY", "RELOADING", "STOPPING", "notify"]

READY, RELOADING, STOPPING = "READY=1", "RELOADING=1", "STOPPING=1"


def notify(state: str) -> None:
    """Tell systemd the state; do nothing if it has not asked for it, or does not listen."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name.startswith(("/", "@")):
        return
    # A leading @ means the null byte of an abstract name. A failed notification must not end the proxy: systemd waits
    # for READY, and reports a start without it as failed.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(state.encode(), name.replace("@", "\0", 1) if name[0] == "@" else name)
