"""The play that the demo reads: scenes, and who says what in them. See README.md for the text."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Final

TITLE: Final = "As You Like It"
PASSAGE_LINES: Final = 6
SENTENCE_ENDS: Final = (".", "?", "!", ":")
_SCENE: Final = re.compile(r"SCENE (?P<number>[IVX]+)\t(?P<place>.*)")
_ACT: Final = re.compile(r"ACT (?P<number>[IVX]+)")
_SPEECH: Final = re.compile(
    r"(?P<speaker>[A-Z][A-Z' ]+|[A-Z][a-z]*(?: [A-Z][a-z]+)?)\t(?P<text>.+)"
)
_ROMAN: Final = {"I": 1, "II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7}


@dataclass(frozen=True)
class Speech:
    """What one person says at once; lines of verse stay lines."""

    speaker: str
    text: str

    def passages(self) -> list[str]:
        """The speech in pieces of at most six lines, cut where a sentence ends if one does."""
        pieces: list[list[str]] = [[]]
        for line in self.text.splitlines():
            ended = pieces[-1] and pieces[-1][-1].endswith(SENTENCE_ENDS)
            if len(pieces[-1]) >= PASSAGE_LINES or (ended and len(pieces[-1]) >= PASSAGE_LINES - 2):
                pieces.append([])
            pieces[-1].append(line)
        return ["\n".join(piece) for piece in pieces]


@dataclass
class Scene:
    """A scene: its name such as "2.7", where it plays, and its speeches in order."""

    name: str
    place: str
    speeches: list[Speech] = field(default_factory=list)


def play_text() -> str:
    """The text as it was found, uncompressed."""
    packed = files(__package__).joinpath("as-you-like-it.txt.gz").read_bytes()
    return gzip.decompress(packed).decode("ascii")


def scenes(text: str) -> list[Scene]:
    """The scenes in order. Stage directions, headings and the list of persons are left out."""
    found: list[Scene] = []
    act = 0
    speaker, lines, directed = "", list[str](), False

    def close() -> None:
        nonlocal speaker, lines
        if speaker and lines:
            found[-1].speeches.append(Speech(speaker, "\n".join(lines)))
        speaker, lines = "", []

    for line in text.splitlines():
        stripped = line.strip()
        if directed or stripped.startswith("["):
            directed = not stripped.endswith("]")
            continue
        if heading := _ACT.fullmatch(stripped):
            close()
            act = _ROMAN[heading["number"]]
        elif (heading := _SCENE.fullmatch(line)) and act:
            close()
            found.append(Scene(f"{act}.{_ROMAN[heading['number']]}", heading["place"].strip()))
        elif stripped == "EPILOGUE":
            close()
            found.append(Scene("epilogue", "before the audience"))
        elif found and (begun := _SPEECH.fullmatch(line)):
            close()
            speaker, lines = begun["speaker"].strip(), [begun["text"].strip()]
        elif speaker and stripped and stripped != TITLE.upper():
            lines.append(stripped)
    close()
    return found
