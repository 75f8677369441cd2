"""Search strings that have broken search boxes, in families, drawn by chance."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

WORDS: Final = (
    "river lantern harbour meeting invoice running память 東京 café naïve ذاكرة 🧠".split()
)
OPERATORS: Final = 'AND OR NOT NEAR NEAR/3 " * ^ : - + ( ) { } , . & | ! <-> :* ~ \\ @ # $'.split()
SQL: Final = (
    "' OR 1=1 --",
    "'; DROP TABLE entries; --",
    '" OR ""="',
    "') UNION SELECT key, value FROM entries --",
    "x' AND tenant <> 'alpha",
    "1; ATTACH DATABASE '/tmp/x' AS x",
    "%' ESCAPE '%",
    "?1 :name @p $q",
    "/* */ /*",
    "0x53514c",
)
PATHS: Final = (
    "$.a.b[0]",
    "$.a') OR 1=1 --",
    "$..*",
    "__proto__.x",
    "a.b.c[?(@.d>1)]",
    "{{7*7}}",
    "${jndi:ldap://x}",
    "../../etc/passwd",
    "%s%n%x{0}{self}",
    "(a+)+$",
    "[[:alpha:]]*",
)
DIRECTIONS: Final = "\u202e\u202d\u2066\u2069\u200f\u200e\u061c\ufeff\u200b\u200d\u2060"
EMOJI: Final = ("👩‍👩‍👧‍👦", "🏳️‍🌈", "🧑🏽‍💻", "🇪🇺", "❤️‍🔥", "1️⃣", "👨🏿")
WILD: Final = ("%", "_", "a%", "a_b", "[a-z]", "*", "?", "\\%", "100%", "k")
SURROGATES: Final = ("\ud800", "\udfff", "\udc80", "\udbff")
LARGE: Final = 100_000


def refused(text: str) -> bool:
    """Whether a string must be refused by every call: it is not text that can be stored."""
    return "\0" in text or any("\ud800" <= c <= "\udfff" for c in text)


def draw(chance: random.Random) -> str:
    """One hostile string."""
    family = chance.choices(FAMILIES, WEIGHTS)[0]
    text = family(chance)
    if chance.random() < 0.1:
        text = chance.choice(WORDS) + chance.choice((" ", "", '"')) + text
    return text


def _operators(chance: random.Random) -> str:
    pieces = chance.choices((*OPERATORS, *WORDS), k=chance.randint(1, 12))
    return chance.choice((" ", "")).join(pieces)


def _quotes(chance: random.Random) -> str:
    pieces = chance.choices(('"', "'", "`", "''", '""', "\\'", *WORDS), k=chance.randint(1, 9))
    return chance.choice((" ", "")).join(pieces)


def _sql(chance: random.Random) -> str:
    return chance.choice(("", *WORDS)) + chance.choice(SQL)


def _paths(chance: random.Random) -> str:
    return chance.choice(PATHS) + chance.choice(("", " ", *WORDS))


def _nul(chance: random.Random) -> str:
    return _with(chance, "\0")


def _surrogate(chance: random.Random) -> str:
    return _with(chance, chance.choice(SURROGATES))


def _with(chance: random.Random, character: str) -> str:
    text = " ".join(chance.choices(WORDS, k=chance.randint(0, 4)))
    at = chance.randint(0, len(text))
    return text[:at] + character + text[at:]


def _directions(chance: random.Random) -> str:
    words = chance.choices((*WORDS, "שלום", "مرحبا"), k=chance.randint(1, 5))
    return "".join(word + chance.choice(DIRECTIONS) for word in words)


def _emoji(chance: random.Random) -> str:
    return chance.choice(("", " ")).join(chance.choices((*EMOJI, *WORDS), k=chance.randint(1, 8)))


def _marks(chance: random.Random) -> str:
    return chance.choice("aeo") + "".join(
        chr(chance.randint(0x300, 0x36F)) for _ in range(chance.choice((1, 10, 300, 3_000)))
    )


def _points(chance: random.Random) -> str:
    points = (chance.choice((0x20, 0x7F, 0x500, 0xFFFF, 0x10FFFF)) for _ in range(20))
    drawn = (chance.randint(1, top) for top in points)
    return "".join(chr(p) for p in drawn if not 0xD800 <= p <= 0xDFFF)


def _wild(chance: random.Random) -> str:
    return chance.choice(WILD) + chance.choice(("", "", *WORDS))


def _empty(chance: random.Random) -> str:
    return chance.choice(("", " ", "\t\n\r", "\x0b\x1f", "the and of", "\u3000", "\x7f", "."))


def _words(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(1, 6)))


def _long_word(chance: random.Random) -> str:
    return chance.choice(("a", "'", '"', "(", "東", "é", "-")) * LARGE


def _many_words(chance: random.Random) -> str:
    return " ".join(f"{chance.choice(WORDS)}{n % 977}" for n in range(10_000))


Family = Callable[[random.Random], str]
_WEIGHTED: Final[tuple[tuple[Family, float], ...]] = (
    (_operators, 22),
    (_quotes, 14),
    (_sql, 10),
    (_paths, 8),
    (_nul, 5),
    (_surrogate, 5),
    (_directions, 6),
    (_emoji, 6),
    (_marks, 3),
    (_points, 8),
    (_wild, 5),
    (_empty, 3),
    (_words, 4.5),
    (_long_word, 0.3),
    (_many_words, 0.2),
)
FAMILIES: Final = tuple(family for family, _ in _WEIGHTED)
WEIGHTS: Final = tuple(weight for _, weight in _WEIGHTED)
