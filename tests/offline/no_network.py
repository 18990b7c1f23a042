"""No Python that the tests start reaches anybody: asking for a name or connecting fails as if there were no network.

Loopback and sockets in the file system are let through, since processes of one machine talk by them. What was asked for
is written into the file that ``TRIVIUM_TESTS_WATCH`` names, line by line, loopback included; so are files, when opened.
"""

import os
import socket
import sys
from typing import Any

HERE = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "::", "", None}
_ASKS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto", "socket.sendmsg"}
_writing = False


def refuse() -> None:
    """From now on; a hook cannot be taken back."""
    sys.addaudithook(_heard)


def reach(item: Any, send: Any) -> str:
    """Tries to get out; for a worker."""
    try:
        socket.create_connection(("198.51.100.7", 80), timeout=5)
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    return "connected"


def _heard(event: str, args: tuple[Any, ...]) -> None:
    if event == "open":
        path, _, flags = args
        if isinstance(path, str | bytes):
            writes = "w" if flags & (os.O_WRONLY | os.O_RDWR) else "r"
            _write(f"open {writes} {os.path.abspath(os.fsdecode(path))}")  # noqa: PTH100  # resolving would open more
        return
    if event not in _ASKS:
        return
    where = args[0] if event in {"socket.getaddrinfo", "socket.gethostbyname"} else args[1]
    if isinstance(where, str | bytes) and event not in {"socket.getaddrinfo", "socket.gethostbyname"}:
        return  # a socket in the file system
    host = where[0] if isinstance(where, tuple) else where
    host = host.decode() if isinstance(host, bytes) else host
    _write(f"{event} {host}")
    if host not in HERE and host != socket.gethostname() and not os.environ.get("TRIVIUM_TESTS_CONNECT"):
        said = f"the tests have no network: {event} {host}"
        raise ConnectionRefusedError(said) if "connect" in event else socket.gaierror(socket.EAI_AGAIN, said)


def _write(line: str) -> None:
    global _writing
    file = os.environ.get("TRIVIUM_TESTS_WATCH")
    if file and not _writing:  # opening the file is heard too
        _writing = True
        try:
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(handle, f"{line}\n".encode())
            os.close(handle)
        finally:
            _writing = False
