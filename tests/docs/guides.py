"""The files that the guides quote from examples/.

`python -m tests.docs.guides` renews the quotes.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.tidy.source import REPOSITORY

GUIDES = [REPOSITORY / "docs" / f"{name}.md" for name in ("add-a-store", "add-a-backend")]
QUOTE = re.compile(r"^```python sketch (examples/\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def quoted(text: str) -> str:
    """The page with every quoted file as it is."""
    return QUOTE.sub(lambda found: f"{found[0].splitlines()[0]}\n{held(found[1])}```", text)


def quotes(page: Path) -> list[str]:
    """The files that a page quotes."""
    return [path for path, _ in QUOTE.findall(page.read_text(encoding="utf-8"))]


def held(path: str) -> str:
    """A file of the repository."""
    return (REPOSITORY / path).read_text(encoding="utf-8")


if __name__ == "__main__":
    for page in GUIDES:
        page.write_text(quoted(page.read_text(encoding="utf-8")), encoding="utf-8")
