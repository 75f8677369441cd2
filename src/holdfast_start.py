"""What the command `holdfast` begins with, beside the package whose import takes its time.

Ctrl-C in that time ends the command as it does later on, and not with a traceback.
"""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main() -> None:
    """Import the command line and run it."""
    try:
        from holdfast.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        sys.exit(INTERRUPTED)
