"""Run the blocks of one page, in order, in this process's folder (see tests.tidy.blocks).

Stands alone: it is started by its path, and must not need this repository on its path.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import socket
import struct
import subprocess
import sys
import types
from pathlib import Path
from typing import Any


def main(plan_path: str) -> int:
    plan = json.loads(Path(plan_path).read_text(encoding="utf-8"))
    raise_loopback()
    names = main_module()
    for block in plan["blocks"]:
        place = f"{plan['page']}:{block['line']}"
        print(f"-- {place}", flush=True)
        if block["kind"] == "python":
            # Empty lines first, so that a traceback names the line of the page.
            source = "\n" * block["line"] + block["text"]
            exec(compile(source, plan["page"], "exec", dont_inherit=True), names)
            continue
        done = subprocess.run(["sh", "-c", block["text"]], stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            print(f"{place}: exit {done.returncode} from: {block['text']}", file=sys.stderr)
            return 1
    return 0


def main_module() -> dict[str, Any]:
    """The page is the main module, so that the types it declares can be looked up there."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    return vars(module)


def raise_loopback() -> None:
    """A new network namespace starts with even its own loopback down; a page may use that."""
    up = struct.pack("16sH14x", b"lo", 1 | 64)
    with contextlib.suppress(OSError), socket.socket() as handle:
        fcntl.ioctl(handle, 0x8914, up)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
