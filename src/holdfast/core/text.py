"""The one text analysis of the contract: every engine indexes and queries the same terms.

A text becomes terms in five steps: compatibility normalisation and case folding, splitting into
words, cutting English clitics and stop words, and stemming by script. Scripts that are written
without spaces become overlapping pairs of characters instead of words; Han and Hangul characters
are terms by themselves too. A word with accents is indexed with and without them. The functions
accept any `str`, lone surrogates included, take linear time and never raise.
"""

import importlib
import re
import sys
import types
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain
from threading import Lock
from typing import Final, TypeVar

from holdfast.core.scripts import HAN_AND_HANGUL, plain_text, spellings

__all__ = [
    "ANALYSIS_VERSION",
    "Lexicon",
    "analyze",
    "normalize_content",
    "term_frequencies",
    "term_parts",
]

T = TypeVar("T")

ANALYSIS_VERSION: Final = 2
"""Rises whenever `analyze` would answer differently; stored indexes of another version rebuild."""

_MAX_WORD: Final = 64
"""Longer words are cut here: identifiers and blobs must not become unbounded index keys."""

_CACHED_WORDS: Final = 1 << 16
"""Words whose terms are remembered (about 13 MB when full); dropped all at once at the bound."""

_MOST_FORMS: Final = 4
"""Words of more terms are not remembered: they are sentences of a script without spaces."""

_PIECE: Final = 1024
"""Normalised at a time. Sorting combining marks is quadratic, so a piece bounds the square."""

STRETCH: Final = 1 << 13
"""Characters, or terms, that are taken at once: what runs in C lets no other thread run meanwhile,
and so holds up the event loop of an async caller too."""

_SEPARATOR: Final = "[\x00-&(-/:-@\\[-`{-\x7f]"
"""A sign of ASCII that no word has in it."""

_OVERLAY: Final = "\u0338"
"""The one mark that composes with signs of ASCII, as in "not equal"."""

_APOSTROPHES: Final = "’ʼ＇‘"

# Letters of scripts written without spaces between words; digits and punctuation are left out.
_UNSPACED: Final = (
    "\u0e01-\u0e3a\u0e40-\u0e4e"  # Thai
    "\u0e81-\u0ece\u0edc-\u0edf"  # Lao
    "\u1000-\u103f\u1050-\u109d\ua9e0-\ua9fe\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17d3\u17dc-\u17dd"  # Khmer
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # Hiragana, Katakana
) + HAN_AND_HANGUL
# Vowel signs and marks belong to the word around them, though they are not alphanumeric.
_MARKS: Final = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06ed\u0711\u0730-\u074a\u0900-\u0903\u093a-\u094f\u0951-\u0957"
    "\u0962\u0963\u0981-\u0983\u09bc-\u09d7\u0a01-\u0a03\u0a3c-\u0a51\u0a70-\u0a75\u0a81-\u0a83"
    "\u0abc-\u0acd\u0b01-\u0b03\u0b3c-\u0b57\u0bbe-\u0bd7\u0c00-\u0c04\u0c3c-\u0c56\u0c81-\u0c83"
    "\u0cbc-\u0cd6\u0d00-\u0d03\u0d3b-\u0d57\u0d81-\u0d83\u0dca-\u0ddf\u0f71-\u0f84\u0f90-\u0fbc"
)
_CLITIC: Final = r"(?:'(?:s|t|d|m|ll|re|ve)(?![a-z0-9]))?"

_ASCII_WORDS: Final = re.compile(rf"[a-z0-9]++{_CLITIC}")
_FOLDED: Final = bytes(
    n if n > 127 or chr(n) == "'" else ord(chr(n).lower() if chr(n).isalnum() else " ")
    for n in range(256)
)
"""What the bytes of UTF-8 become before they are cut into words; those beyond ASCII stay."""

_SPACED: Final = bytes(
    ord(" " if chr(n).isspace() else chr(n).lower()) if n < 128 else n for n in range(256)
)
"""What they become before a text is compared as a whole."""


@cache  # compiled at the first text beyond ASCII: 8 ms that most processes need not spend
def _unicode_patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of a run of unspaced script or a spaced word, of a whole-word letter."""
    word = rf"(?:[^\W_{_UNSPACED}]++|[{_MARKS}]++)++{_CLITIC}"
    return re.compile(rf"([{_UNSPACED}]++)|{word}"), re.compile(f"[{HAN_AND_HANGUL}]")


# English words that carry grammar rather than a topic. Written for recall over conversations:
# "may" stays out, because it is a month, and so do number words.
_GRAMMAR: Final = {
    "quantity": (
        "a an the this that these those some any each every either neither both all another "
        "other others such no none nor not only own same so too very just much many more most "
        "few less least enough several"
    ),
    "persons": (
        "i me my mine myself we us our ours ourselves you your yours yourself yourselves he him "
        "his himself she her hers herself it its itself they them their theirs themselves one "
        "ones"
    ),
    "questions": (
        "who whom whose which what when where why how whoever whatever whichever whenever "
        "wherever however"
    ),
    "auxiliaries": (
        "am is are was were be been being have has had having do does did doing done can could "
        "shall should will would might must ought cannot"
    ),
    "prepositions": (
        "about above across after against along among around as at before behind below beneath "
        "beside besides between beyond by down during except for from in inside into like near "
        "of off on onto out outside over per since through throughout till to toward towards "
        "under until up upon via with within without"
    ),
    "conjunctions": (
        "and but or if because although though unless while whereas whether than then"
    ),
    "speech": (
        "again ago already also always am anyway else ever even here hence there therefore thus "
        "now once often perhaps quite rather really sometimes still yet never maybe yes yeah ok "
        "okay oh well hey hi hello please thanks thank wow"
    ),
    "verbs": ("get gets got getting gotten let lets"),
}
_STOP_WORDS: Final = frozenset(word for words in _GRAMMAR.values() for word in words.split())


def analyze(text: str) -> list[str]:
    """Return the index terms of `text`, in order, repetitions kept, stop words cut.

    A text without a single letter or digit, or made of stop words only, has no terms.
    """
    terms: list[str] = []
    for part in term_parts(text):
        terms += part
    return terms


def term_parts(text: str) -> Iterator[Iterable[str]]:
    """Yield what `analyze` returns, in parts, of which none takes long."""
    return map(chain.from_iterable, _TERMS.parts(text))


def term_frequencies(text: str) -> dict[str, int]:
    """Return how often each term of `text` occurs; the sum of the values is its BM25 length."""
    terms = analyze(text)
    found = dict.fromkeys(terms[:STRETCH], 1)
    if len(found) < len(terms):  # in a short text nearly every term stands once
        found = {}
        for term in terms:
            found[term] = found.get(term, 0) + 1
    return found


def normalize_content(text: str) -> str:
    """Return `text` with compatibility forms, case and runs of whitespace folded.

    Two texts that a reader would call the same wording share this form; dedupe fingerprints and
    embedding caches are keyed by it. Idempotent.
    """
    if text.isascii():
        folded = text.encode().translate(_SPACED).decode()
        if "  " not in folded:
            return folded.strip()
    else:
        folded = _fold(text)
    parts = (" ".join(part.split()) for part in _stretches(folded, r"\s"))
    return " ".join(filter(None, parts))


def _fold(text: str) -> str:
    text = _with_plain_apostrophes(text)
    if text.isascii():
        return text.lower()
    return "".join(map(_fold_piece, _pieces(text)))


def _fold_piece(text: str) -> str:
    # Folding can undo composition and composing can bring capitals back: three rounds settle all.
    for _ in range(3):
        composed = unicodedata.normalize("NFKC", text)
        folded = _with_plain_apostrophes(composed.casefold())
        if folded == text:
            return composed
        text = folded
    return unicodedata.normalize("NFKC", text)


def _with_plain_apostrophes(text: str) -> str:
    for apostrophe in _APOSTROPHES:
        text = text.replace(apostrophe, "'")
    return text


def _pieces(text: str) -> Iterator[str]:
    """Cut at the last space of each stretch, so that no composed character is torn in two."""
    start, size = 0, len(text)
    while size - start > _PIECE:
        stop = text.rfind(" ", start + 1, start + _PIECE)
        stop = stop if stop > 0 else start + _PIECE
        yield text[start:stop]
        start = stop
    yield text[start:]


def _stretches(text: str, separator: str = _SEPARATOR) -> Iterator[str]:
    """Cut a long text before a separator here and there."""
    start, find = 0, re.compile(separator).search
    while len(text) - start > STRETCH and (found := find(text, start + STRETCH)):
        yield text[start : found.start()]
        start = found.start()
    yield text[start:]


def _is_sum_of_its_words(text: str) -> bool:
    """Whether no two words, cut at spaces and at ASCII punctuation, make terms together.

    An overlay can compose with a sign before it, and a piece without a space ends within a word.
    """
    if _OVERLAY in text:
        return False
    return len(text) <= _PIECE or all(piece[0] == " " for piece in [*_pieces(text)][1:])


def _terms_of(word: str) -> list[str]:
    if word.isascii() and word.isalnum():
        term = _term(word)
        return [term] if term else []
    return _analyze_whole(word)


def _analyze_whole(text: str) -> list[str]:
    return [*chain.from_iterable(_whole_parts(text))]


def _whole_parts(text: str) -> Iterator[list[str]]:
    for stretch in _stretches(_fold(text)):
        if stretch.isascii():
            yield [term for word in _ASCII_WORDS.findall(stretch) if (term := _term(word))]
        else:
            yield from _parts_beyond_ascii(plain_text(stretch))


def _parts_beyond_ascii(text: str) -> Iterator[list[str]]:
    tokens, _ = _unicode_patterns()
    terms: list[str] = []
    for token in tokens.finditer(text):
        run = token[1]
        for some in _run_parts(run) if run else (_FORMS[token[0]],):
            terms += some
            if len(terms) >= STRETCH:
                yield terms
                terms = []
    yield terms


def _run_parts(run: str) -> Iterator[Iterable[str]]:
    if len(run) == 1:
        yield run
        return
    _, alone = _unicode_patterns()
    for start in range(0, len(run), STRETCH):
        stop = start + STRETCH
        yield map(str.__add__, run[start:stop], run[start + 1 : stop + 1])
    for start in range(0, len(run), STRETCH):
        yield alone.findall(run[start : start + STRETCH])


class Lexicon(dict[str, T]):
    """What is made of the terms of a word, for the words that were met last.

    A word is kept as it stands in a text, but for capitals of ASCII.
    """

    def __init__(self, make: Callable[[list[str]], T]) -> None:
        """``make`` gives the value of some terms in order; one that is false for none."""
        super().__init__()
        self._make = make

    def of(self, text: str) -> list[T]:
        """Return what is made of the terms of ``text``, word by word, where there are any."""
        if text.isascii() or _is_sum_of_its_words(text):
            folded = text.encode("utf-8", "surrogatepass").translate(_FOLDED)
            words = folded.decode("utf-8", "surrogatepass").split()
            return list(filter(None, map(self.__getitem__, words)))
        return list(filter(None, [self._make(_analyze_whole(text))]))

    def parts(self, text: str) -> Iterator[list[T]]:
        """Yield what `of` returns, a stretch of a long text at a time."""
        if len(text) <= STRETCH:
            yield self.of(text)
        elif text.isascii() or _is_sum_of_its_words(text):
            yield from map(self.of, _stretches(text))
        else:
            yield from ([made] for terms in _whole_parts(text) if (made := self._make(terms)))

    def __missing__(self, word: str) -> T:
        terms = _terms_of(word)
        made = self._make(terms)
        if len(word) <= _MAX_WORD and len(terms) <= _MOST_FORMS:
            if len(self) >= _CACHED_WORDS:
                self.clear()
            self[word] = made
        return made


_TERMS: Final = Lexicon[tuple[str, ...]](tuple)


class _Forms(dict[str, tuple[str, ...]]):
    """Word beyond ASCII -> its terms, one for each way in which it is spelled; bounded too."""

    def __missing__(self, word: str) -> tuple[str, ...]:
        if word.isascii():
            found = [_term(word)]
        else:
            base = word.partition("'")[0][:_MAX_WORD]
            found = [_term(form) for form in spellings(base)]
        terms = tuple(dict.fromkeys(term for term in found if term))
        if len(word) > _MAX_WORD:
            return terms
        if len(self) >= _CACHED_WORDS:
            self.clear()
        self[word] = terms
        return terms


_FORMS: Final = _Forms()


def _term(word: str) -> str:
    base, apostrophe, clitic = word.partition("'")
    base = base[:_MAX_WORD]
    if base.isdecimal() and len(base) > 1:
        return base
    if apostrophe and clitic == "t" and base.endswith("n"):
        return ""  # don't, isn't, won't: a negated stop word each
    # A vowel sign counts: many words of Indic scripts are one letter with its sign.
    if base in _STOP_WORDS or len(base) < 2 or not any(map(str.isalnum, base)):
        return ""
    return _stem(base)


def _stem(word: str) -> str:
    first = next((c for c in word if c.isalpha()), "")
    if not first:
        return word
    for low, high, language in _STEMMED_SCRIPTS:
        if low <= first <= high:
            if language == "english" and "0" <= word[-1] <= "9":
                return word  # what its rules cut and mend are endings, none of which is a digit
            stemmed = _stemmer(language)(word)
            return stemmed if len(stemmed) > 1 else word
    return word


_STEMMED_SCRIPTS: Final = (
    ("a", "\u024f", "english"),
    ("\u0370", "\u03ff", "greek"),
    ("\u0400", "\u052f", "russian"),
    ("\u0600", "\u06ff", "arabic"),
    ("\u0900", "\u097f", "hindi"),
    ("\u0b80", "\u0bff", "tamil"),
    ("\u1e00", "\u1eff", "english"),
    ("\u1f00", "\u1fff", "greek"),
)
_STEMMERS: dict[str, Callable[[str], str]] = {}
_STEMMING: Final = Lock()


def _stemmer(language: str) -> Callable[[str], str]:
    stem = _STEMMERS.get(language)
    return stem or _load_stemmer(language)


def _load_stemmer(language: str) -> Callable[[str], str]:
    """Load one language of snowballstemmer.

    Its package imports all thirty languages (150 ms) and prefers another library's algorithms when
    that happens to be installed, which would change the index. A namespace of our own over the
    package's folder loads the one pure-Python algorithm alone.
    """
    from importlib.util import find_spec

    with _STEMMING:
        if _NAMESPACE not in sys.modules:
            spec = find_spec("snowballstemmer")
            if spec is None or spec.submodule_search_locations is None:
                raise ModuleNotFoundError("holdfast needs the package 'snowballstemmer'")
            namespace = types.ModuleType(_NAMESPACE)
            namespace.__path__ = list(spec.submodule_search_locations)
            sys.modules[_NAMESPACE] = namespace
        module = importlib.import_module(f"{_NAMESPACE}.{language}_stemmer")
        algorithm = getattr(module, f"{language.capitalize()}Stemmer")()
    # A stemmer keeps the word in itself while it works, so one thread at a time.
    lock = Lock()

    def stem(word: str) -> str:
        with lock:
            return str(algorithm.stemWord(word))

    return _STEMMERS.setdefault(language, stem)


_NAMESPACE: Final = "holdfast_snowball"
