"""Cut the network for every Python process that has this folder on its path.

The interpreter imports `sitecustomize` by itself, so a child process is cut too.
"""

from __future__ import annotations

import ipaddress
import sys
from typing import Any


class NetworkCutError(OSError):
    """Something on a page tried to leave this machine."""


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse names to look up and addresses to reach, other than this machine's own."""
    if event in {"socket.connect", "socket.sendto"}:
        address = arguments[1]
        if isinstance(address, tuple) and address and not is_local(address[0]):
            raise NetworkCutError(f"the network is cut: {address[0]}")
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"} and not is_local(arguments[0]):
        raise NetworkCutError(f"the network is cut: {arguments[0]}")


def is_local(host: object) -> bool:
    """Loopback in any notation, or no host at all."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if name in {None, "", "localhost", "0.0.0.0", "::"}:
        return True
    try:
        return ipaddress.ip_address(str(name)).is_loopback
    except ValueError:
        return False


sys.addaudithook(refuse)
