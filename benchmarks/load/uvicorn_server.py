"""``python -m benchmarks.load.uvicorn_server …``: ``python -m uvicorn …``, on a socket of TCP.

The socket that uvicorn makes for several workers does not name its protocol, and asyncio sets
TCP_NODELAY only where that is TCP.  Head and body are two messages, so on a connection that is kept
the second one waited for the client's delayed acknowledgement: 40 ms, whatever the application did.
"""

from __future__ import annotations

import socket
from typing import Any

import uvicorn
from uvicorn.config import Config

_bind_socket = Config.bind_socket


def _bind_named(config: Config) -> socket.socket:
    """Uvicorn's socket, made anew from its number: so Python asks the system for its protocol."""
    return socket.socket(fileno=_bind_socket(config).detach())


if __name__ == "__main__":
    patched: Any = Config
    patched.bind_socket = _bind_named
    uvicorn.main()
