"""SHA-256 and BLAKE2b from the interpreter's own code.

`hashlib` loads OpenSSL for the same digests, which takes longer than storing a first memory does;
the standard library's `random` does without it in the same way. Where an interpreter was built
without its own code, hashlib's is used.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import blake2b, sha256
else:
    try:
        from _blake2 import blake2b

        if sys.version_info >= (3, 12):
            from _sha2 import sha256
        else:
            from _sha256 import sha256
    except ImportError:
        from hashlib import blake2b, sha256

__all__ = ["blake2b", "sha256"]
