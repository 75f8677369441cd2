"""Real servers for tests: started from wheels, shared by a test run, gone when it ends."""

from holdfast.testing.servers.builds import Build, MissingServer, find
from holdfast.testing.servers.pooler import Pooler, pooled
from holdfast.testing.servers.postgres import Server, running, started
from holdfast.testing.servers.proxy import Proxy, proxied
from holdfast.testing.servers.shared import GIVEN, shared_url
from holdfast.testing.servers.tls import secure

__all__ = [
    "GIVEN",
    "Build",
    "MissingServer",
    "Pooler",
    "Proxy",
    "Server",
    "find",
    "pooled",
    "proxied",
    "running",
    "secure",
    "shared_url",
    "started",
]
