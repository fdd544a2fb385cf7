"""Where processes of a test meet."""

from __future__ import annotations

import socket


def unused_port() -> int:
    """A port of this machine's that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]
