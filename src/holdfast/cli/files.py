"""Files that commands write."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress

from holdfast.core.files import OWNER_ALONE, owned


def write_lines(file: str, lines: Iterable[str]) -> int:
    """Write the lines; the file has its name only when it is complete. How many there were.

    A file that is written over passes its mode on.
    """
    mode = stat.S_IMODE(os.stat(file).st_mode) if os.path.exists(file) else OWNER_ALONE
    partial, count = f"{file}.partial", 0
    try:
        with suppress(FileNotFoundError):
            os.unlink(partial)
        with open(partial, "x", encoding="utf-8", newline="\n", opener=owned) as target:
            for line in lines:
                target.write(line + "\n")
                count += 1
            target.flush()
            os.fsync(target.fileno())
        os.chmod(partial, mode)
        os.replace(partial, file)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial)
        raise
    return count
