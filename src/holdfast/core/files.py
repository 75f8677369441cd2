"""Files for their owner's eyes, whatever the umask lets others see."""

from __future__ import annotations

import os
from typing import Final

OWNER_ALONE: Final = 0o600


def owned(path: str, flags: int) -> int:
    """An opener: a file that it makes can be read by its owner alone; another keeps its mode."""
    return os.open(path, flags, OWNER_ALONE)
