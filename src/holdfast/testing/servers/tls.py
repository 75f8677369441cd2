"""Certificates made for one test, and a server that shows them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from holdfast.testing.servers.builds import MissingServer
from holdfast.testing.servers.postgres import Server
from holdfast.testing.servers.run import new_folder


def secure(server: Server, host: str) -> Path:
    """Let a server that is not running yet take TLS alone, under this host name.

    Returns the certificate of the authority that signed its own.
    """
    place = new_folder("certificates")
    authority, key, certificate = (place / name for name in ("ca.crt", "server.key", "server.crt"))
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", "/CN=holdfast test authority", "-days", "2"),
        *("-keyout", place / "ca.key", "-out", authority),
    )
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", f"/CN={host}", "-days", "2", "-addext", f"subjectAltName=DNS:{host}"),
        *("-addext", "basicConstraints=critical,CA:FALSE"),
        *("-CA", authority, "-CAkey", place / "ca.key", "-keyout", key, "-out", certificate),
    )
    key.chmod(0o600)
    for path in (key, certificate, authority):
        server.give(path)
    server.configure({"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)})
    (server.data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")
    return authority


def _openssl(*arguments: str | Path) -> None:
    found = shutil.which("openssl")
    if found is None:
        raise MissingServer("The tests of TLS make certificates with openssl; install it.")
    done = subprocess.run(
        [found, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"openssl failed: {done.stderr.strip()}")
