"""What the writing of a language asks for before its words can be terms of an index.

People write one word in several ways: with or without accents, vowel points, stress marks and
joiners, in the digits of their script. `plain_text` takes away what no reader would search by;
`spellings` adds, beside a word as it is written, the form in which it is often typed.
"""

import re
import unicodedata
from functools import cache
from typing import Final

__all__ = ["HAN_AND_HANGUL", "plain_text", "spellings"]

HAN_AND_HANGUL: Final = (
    "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"
    "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
)
"""Scripts in which one character is often a word, so that it is a term by itself too."""

_DROPPED: Final = (
    (0x00AD, 0x00AD),  # soft hyphen
    (0x0591, 0x05BD),  # Hebrew accents and vowel points
    (0x05BF, 0x05BF),
    (0x05C1, 0x05C2),
    (0x05C4, 0x05C5),
    (0x05C7, 0x05C7),
    (0x0610, 0x061A),  # Arabic vowel and reading marks, and the stretching stroke
    (0x0640, 0x0640),
    (0x064B, 0x065F),
    (0x0670, 0x0670),
    (0x06D6, 0x06DC),
    (0x06DF, 0x06E8),
    (0x06EA, 0x06ED),
    (0x200C, 0x200D),  # joiners within words; between Persian ones see _PERSIAN_JOINT
    (0x2060, 0x2060),
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFEFF, 0xFEFF),
    (0xE0100, 0xE01EF),
)
# One letter, several code points: Persian and Urdu keyboards, and what Arabic writers leave out.
_ARABIC: Final = {
    "آ": "ا",
    "أ": "ا",
    "إ": "ا",
    "ٱ": "ا",
    "ی": "ي",
    "ى": "ي",
    "ے": "ي",
    "ک": "ك",
    "ہ": "ه",
    "ھ": "ه",
    "ۀ": "ه",
    "ە": "ه",
}
# Compiled, and kept by `re`, at the first text beyond ASCII, like `_plain_letters`.
_PERSIAN_JOINT: Final = "(?<=[\u0600-\u06ff])\u200c"
_DOTTED: Final = "i\u0307+"
_STRESS: Final = "[\u0300-\u036f]+"
# Latin letters whose stroke or shape is no combining mark.
_LETTERS: Final = str.maketrans(
    {"ı": "i", "ł": "l", "ø": "o", "đ": "d", "ħ": "h", "ŧ": "t", "ð": "d", "ŋ": "n", "ə": "e"}
    | {"æ": "ae", "œ": "oe", "þ": "th", "ƒ": "f", "ĸ": "k", "ɓ": "b", "ɗ": "d", "ƙ": "k"}
)
_LATIN: Final = "[a-z\u00df-\u024f\u0250-\u02af\u1e00-\u1eff]"
_HEBREW_PREFIXES: Final = "ושהכלבמ"
_WINDOW: Final = 1 << 13
_HEBREW_ROOT: Final = 3
"""Letters that a Hebrew word keeps when its prefixes are taken off."""


def plain_text(folded: str) -> str:
    """Return a case-folded text without what its readers do not search by; linear in its length.

    Digits of every script become ASCII ones, because a year is a year in all of them.
    """
    if "\u200c" in folded:
        folded = re.sub(_PERSIAN_JOINT, " ", folded)
    letters = _plain_letters()
    # In windows, since other threads wait for each: a letter takes a tenth of a microsecond.
    windows = range(0, len(folded), _WINDOW)
    plain = "".join([folded[at : at + _WINDOW].translate(letters) for at in windows])
    # Case folding leaves a dot above the i of a Turkish capital.
    return re.sub(_DOTTED, "i", plain)


def spellings(word: str) -> tuple[str, ...]:
    """Return the forms to index of a plain word: as it is written, and as it is often typed.

    >>> spellings("café")
    ('café', 'cafe')
    """
    if re.match(_LATIN, word):
        typed = _without_marks(word).translate(_LETTERS)
        return (word,) if typed == word else (word, typed)
    if "\u0590" <= word[0] <= "\u05ff":
        bare = _without_prefixes(word)
        return (word,) if bare == word else (word, bare)
    # Whatever did not compose is no letter of a language outside Latin but a mark of stress.
    return (re.sub(_STRESS, "", word) or word,)


def _without_marks(word: str) -> str:
    return re.sub(_STRESS, "", unicodedata.normalize("NFD", word))


def _without_prefixes(word: str) -> str:
    """Hebrew writes "and", "the", "in", "to", "from", "that" as letters before the word."""
    start = 0
    while len(word) - start > _HEBREW_ROOT and word[start] in _HEBREW_PREFIXES:
        start += 1
    return word[start:]


@cache  # made at the first text beyond ASCII
def _plain_letters() -> dict[int, str | None]:
    dropped = {point: None for first, last in _DROPPED for point in range(first, last + 1)}
    return dropped | _digits() | {ord(letter): plain for letter, plain in _ARABIC.items()}


def _digits() -> dict[int, str]:
    """Every decimal digit beyond ASCII with its value; scripts have theirs in runs of ten."""
    zeros = (int(zero, 16) for zero in _ZEROS.split())
    return {zero + value: str(value) for zero in zeros for value in range(10)}


_ZEROS: Final = (
    "660 6f0 7c0 966 9e6 a66 ae6 b66 be6 c66 ce6 d66 de6 e50 ed0 f20 1040 1090 17e0 1810 1946"
    " 19d0 1a80 1a90 1b50 1bb0 1c40 1c50 a620 a8d0 a900 a9d0 a9f0 aa50 abf0 104a0 11066 11136"
)
