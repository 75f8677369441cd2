"""What a search answers, and how it reads: score bars, and which leg found what.

What is stored is shown, never interpreted: markup is escaped for a notebook, and what would act
on a terminal is written as an escape.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any, ClassVar, Final, NamedTuple, TypeVar

from holdfast.core.visible import bar, visible

LINES: Final = 3
"""Most lines of a text."""

Item = TypeVar("Item")


class Shown(NamedTuple):
    """What is shown of one result."""

    id: str
    score: float
    legs: tuple[str, ...]
    origin: str
    """Where it is from, in a few words."""
    text: str


class Answer(list[Item]):
    """What was found, best first.

    ``flags`` says what was not as usual. ``stages`` holds, with ``explain``, what each step did.
    """

    nothing: ClassVar[str] = "Nothing found."
    digits: ClassVar[int] = 3
    """Of a score, behind the point."""
    flags: tuple[str, ...]
    stages: dict[str, Any]

    def __init__(
        self,
        items: Iterable[Item] = (),
        flags: tuple[str, ...] = (),
        stages: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(items)
        self.flags = flags
        self.stages = stages or {}

    def shown(self, item: Item) -> Shown:
        """What is shown of one of the results."""
        raise NotImplementedError

    def text(self, width: int = 80) -> str:
        """All results in lines of at most ``width`` characters, from 60 on."""
        if not self:
            return self.nothing
        results = [self.shown(item) for item in self]
        top = max(each.score for each in results)
        blocks = [
            "\n".join(_lines(number, each, top, width, self.digits))
            for number, each in enumerate(results, 1)
        ]
        if self.flags:
            blocks.append(f"flags: {', '.join(self.flags)}")
        return "\n".join(blocks)

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        results = [self.shown(item) for item in self]
        top = max((each.score for each in results), default=0.0)
        rows = "".join(_row(n, each, top, self.digits) for n, each in enumerate(results, 1))
        names = ("", "score", "found by", "text", "origin", "id")
        heads = "".join(f"<th>{name}</th>" for name in names)
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def legs_text(legs: tuple[str, ...]) -> str:
    """Which legs found a result, in words."""
    return "+".join(legs) or "neighbour"


def _share(score: float, top: float) -> float:
    return score / top if top > 0 else 0.0


def _lines(number: int, shown: Shown, top: float, width: int, digits: int) -> list[str]:
    """Rank, bar, score, legs and origin; below them what it says, and its id."""
    score = f"{shown.score:{3 + digits}.{digits}f}"
    head = f"{number:>3} {bar(_share(shown.score, top))} {score}  {legs_text(shown.legs):<11}"
    origin, room = visible(shown.origin), width - len(head) - 2
    if origin:
        head += f"  {origin if len(origin) <= room else origin[: max(room - 1, 0)] + '…'}"
    wrapped = textwrap.wrap(
        visible(" ".join(shown.text.split())),
        max(width - 4, 20),
        max_lines=LINES,
        placeholder=" …",
        break_on_hyphens=False,
    )
    return [head.rstrip(), *(f"    {line}" for line in wrapped), f"    {visible(shown.id)}"]


def _row(number: int, shown: Shown, top: float, digits: int) -> str:
    import html  # its table of entities is large, and only notebooks come here

    share = min(1.0, max(0.0, _share(shown.score, top)))
    score = f"<meter min=0 max=1 value={share:.3f}></meter> {shown.score:.{digits}f}"
    told = (legs_text(shown.legs), shown.text, visible(shown.origin), shown.id)
    cells = (str(number), score, *map(html.escape, told))
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
