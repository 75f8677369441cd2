"""The text analysis of the contract."""

import random
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.backends.sql import terms
from holdfast.core import text as analysis
from holdfast.core.scripts import plain_text
from holdfast.core.text import (
    STRETCH,
    Lexicon,
    _analyze_whole,
    _stemmer,
    analyze,
    normalize_content,
    term_frequencies,
    term_parts,
)
from holdfast.recall.embedders import HashEmbedder
from holdfast.testing.shapes import CHILDREN

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Caroline's running shoes", ["carolin", "run", "shoe"]),
        ("Caroline’s running shoes", ["carolin", "run", "shoe"]),
        ("I don't, we can't, they'll, you've", []),
        ("who are you?", []),
        ("", []),
        ("?!… 🎉 _ '", []),
        ("x y 7 ab", ["ab"]),
        ("7 May 2023", ["may", "2023"]),
        ("user_id rock'n'roll O'Brien", ["user", "id", "rock", "roll", "brien"]),
        ("ＨＥＬＬＯＷ ﬁsh", ["hellow", "fish"]),
        ("STRASSE straße", ["strass", "strass"]),
        ("Книги книгами", ["книг", "книг"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー", "東", "京"]),
        ("日", ["日"]),
        ("서울시", ["서울", "울시", "서", "울", "시"]),
        ("ภาษา", ["ภา", "าษ", "ษา"]),
        ("GPT4は速い", ["gpt4", "は速", "速い", "速"]),
        ("हिन्दी भाषा", ["हिन्द", "भाष"]),
        ("घी माँ", ["घी", "माँ"]),
        ("ש\u05b8ׁלוֹם עולם", ["שלום", "לום", "עולם"]),
        ("והספר ספר", ["והספר", "ספר", "ספר"]),
        ("2023 ２０２３ ٢٠٢٣ ۲۰۲۳ २०२३ ๒๐๒๓ ២០២៣", ["2023"] * 7),
        ("Donau\u00addampf", ["donaudampf"]),
        ("کتاب\u200cها کتاب كتاب", ["كتاب", "ها", "كتاب", "كتاب"]),
        ("İstanbul ISPARTA ısparta", ["istanbul", "isparta", "ısparta", "isparta"]),
        ("Łódź Ærø", ["łódź", "lodz", "ærø", "aero"]),
        ("за\u0301мок замок ёлка елка", ["замок", "замок", "елк", "елк"]),
        ("🎉 café 🎂", ["café", "cafe"]),
    ],
)
def test_terms_are_those_of_the_rules(text: str, terms: list[str]) -> None:
    assert analyze(text) == terms


@pytest.mark.parametrize(
    ("one", "other"), [("διαβάζω", "διαβάζεις"), ("الكتاب", "كتاب"), ("studies", "studying")]
)
def test_inflections_share_their_stem(one: str, other: str) -> None:
    assert analyze(one) == analyze(other)


def test_composed_and_decomposed_spellings_are_one() -> None:
    assert analyze("re\u0301sume\u0301") == analyze("r\u00e9sum\u00e9")
    assert analyze("r\u00e9sum\u00e9") == ["r\u00e9sum\u00e9", *analyze("resume")]


def test_order_and_repetition_are_kept_and_counted() -> None:
    assert analyze("cats dogs cat") == ["cat", "dog", "cat"]
    assert term_frequencies("cats dogs cat") == {"cat": 2, "dog": 1}


def test_overlong_words_are_cut() -> None:
    assert len(analyze("z" * 1_000_000)[0]) <= 64
    assert len(analyze("é" * 1_000_000)[0]) <= 64


def test_what_follows_an_overlong_word_is_still_found() -> None:
    assert analyze("z" * 100 + " lighthouse")[1:] == analyze("lighthouse")


@given(ANY_TEXT)
def test_no_text_raises_and_terms_are_bounded(text: str) -> None:
    terms = analyze(text)
    assert all(0 < len(term) <= 64 and not term.isspace() for term in terms)
    assert sum(term_frequencies(text).values()) == len(terms)


@given(ANY_TEXT)
def test_normalizing_twice_changes_nothing(text: str) -> None:
    once = normalize_content(text)
    assert normalize_content(once) == once
    assert analyze(once) == analyze(text)


@given(st.text(st.characters(codec="ascii")), st.text(st.characters(codec="ascii")))
def test_a_text_holds_the_terms_of_its_words(left: str, right: str) -> None:
    assert analyze(f"{left} {right}") == analyze(left) + analyze(right)


def test_hostile_combining_marks_are_folded_to_the_end() -> None:
    text = "a" + "\u0301\u0323" * 20_000 + " lighthouse"
    assert analyze(text)[-1] == "lighthous"


def test_long_text_is_analysed_as_its_sentences_are() -> None:
    sentence = "Zoë carried the naïve façade across Zürich. "
    assert unicodedata.is_normalized("NFC", sentence)
    assert analyze(sentence * 500) == analyze(sentence) * 500


def test_importing_the_analysis_loads_no_stemmer() -> None:
    code = "import sys, holdfast.core.text; print([m for m in sys.modules if 'snowball' in m])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_one_language_is_loaded_at_a_time() -> None:
    code = (
        "import sys; from holdfast.core.text import analyze; analyze('running');"
        "print(sorted(m for m in sys.modules if m.endswith('_stemmer')))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['holdfast_snowball.english_stemmer']"


def test_the_digits_of_every_script_are_digits() -> None:
    written = [chr(c) for c in range(128, 0x10000) if chr(c).isdecimal()]
    assert len(written) > 300
    for digit in written:
        assert analyze(digit * 4) == [str(unicodedata.digit(digit)) * 4]


@given(ANY_TEXT)
def test_scripts_are_made_plain_once(text: str) -> None:
    once = plain_text(text)
    assert len(once) <= len(text) + text.count("\u0307")
    assert plain_text(once) == once


@pytest.mark.parametrize(
    "piece", ["é", "שלום", "ك\u200c", "\u0301", "猫", "ก็", "ि", "i\u0307", "٣"]
)
def test_time_is_linear_in_the_text(piece: str) -> None:
    terms = analyze(piece * 200_000 + " lighthouse")
    assert terms[-1] == "lighthous"


AWKWARD = st.sampled_from(
    [*" \n'’<=>_,.\u00a0\u3000\u0338\u0301\u0307\u200c\u00adİJßﬁÅ猫ก็ि\u05b8٣\ud800", "'s", "n’t"]
)


@given(st.lists(AWKWARD | st.characters(exclude_categories=())).map("".join), st.booleans())
def test_a_text_cut_into_words_has_the_terms_of_the_whole(text: str, long: bool) -> None:
    repeated = text * 200 if long else text
    assert analyze(repeated) == _analyze_whole(repeated)


@pytest.mark.parametrize(
    "text",
    [
        "=\u0338été",  # composes to a sign, of which no mark is left for the word
        "\n".join(["été"] * 400),  # torn where a piece ends, for want of a space
        "\n".join(["e\u0301te\u0301"] * 400),
    ],
)
def test_what_words_cannot_be_cut_from_is_read_whole(text: str) -> None:
    assert analyze(text) == _analyze_whole(text)


def in_one(monkeypatch: pytest.MonkeyPatch, stretch: int, text: str) -> tuple[object, ...]:
    """What is made of a text when so many characters are taken at once."""
    for module in (analysis, terms):
        monkeypatch.setattr(module, "STRETCH", stretch)
    packed = terms.pack(CHILDREN, {"body": text})
    embedded = HashEmbedder(16).embed_packed([text])
    # The order of the terms is kept in a record, that of the packed ones has no meaning.
    return analyze(text), [*term_frequencies(text)], normalize_content(text), packed, embedded


@given(st.lists(AWKWARD | st.characters(exclude_categories=())).map("".join), st.integers(1, 9))
def test_a_text_taken_in_stretches_is_the_text(text: str, stretch: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        whole = in_one(patched, 1 << 30, text)
        assert in_one(patched, stretch, text) == whole


def test_saboteur_that_cuts_words_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "lighthouse keeper"
    whole = in_one(monkeypatch, 1 << 30, text)
    assert in_one(monkeypatch, 4, text) == whole

    def anywhere(text: str, _: str = "") -> list[str]:
        return [text[at : at + 4] for at in range(0, len(text), 4)]

    monkeypatch.setattr(analysis, "_stretches", anywhere)
    assert in_one(monkeypatch, 4, text) != whole


@pytest.mark.parametrize(
    "piece",
    ["kayak ", "ab.cd,", "kayak's ", "zoë ", "zoë\n", "zoë。", "猫zoë", "ก็", "서울시 "],
)
@pytest.mark.parametrize("broken", [False, True])
def test_of_a_long_text_little_is_taken_at_once(
    monkeypatch: pytest.MonkeyPatch, piece: str, broken: bool
) -> None:
    text = piece * 30_000
    if broken:
        monkeypatch.setattr(analysis, "STRETCH", 1 << 30)
    longest = max(len([*part]) for part in term_parts(text))
    assert (longest > 3 * STRETCH) is broken
    if not broken:
        assert sum(len([*part]) for part in term_parts(text)) == len(analyze(text))


def test_a_lexicon_makes_values_of_the_terms_of_each_word() -> None:
    lexicon = Lexicon("+".join)
    for text in ("the Cats of Zoë’s café", "The cats, of Zoë's café!"):
        assert lexicon.of(text) == ["cat", "zoë+zoe", "café+cafe"]
    assert lexicon.of("of the") == lexicon.of("") == []


def test_a_word_that_ends_with_a_digit_is_what_the_stemmer_leaves_too() -> None:
    chance = random.Random(4)
    endings = ("ing", "ed", "ies", "ational", "ly", "y", "sses", "")
    for _ in range(2_000):
        letters = "".join(chance.choices("aeiouybdlnrst09é", k=chance.randint(1, 6)))
        word = f"a{letters}{chance.choice(endings)}{chance.randrange(10)}"
        assert _stemmer("english")(word) == word
        assert word in analyze(word)
