"""PostgreSQL: search within tenants of three sizes, beside statements written by hand.

The hand-written side is psycopg, as a superuser without a tenant: pgvector on our own tables, a
postings table with BM25 in SQL, and ts_rank over a GIN index. The engine is a role that owns
nothing. Every side answers with ten whole records.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy

from bench.measure import Contender, Figures, Goal, Sheet, percentile
from bench.postgres import new_database
from bench.search.data import TOP, WANTED, Texts, Vectors
from holdfast.backends.sql.terms import hashed
from holdfast.core.change import ABSENT, Put
from holdfast.core.clock import SystemClock
from holdfast.core.collection import Collection, Field, Index
from holdfast.core.search import Search, TextLeg, VectorLeg
from holdfast.core.text import analyze, term_frequencies
from holdfast.core.values import Vector

if TYPE_CHECKING:
    import psycopg

    from holdfast.backends.postgres import PostgresDriver

MS: Final = "ms"
BEST: Final = "ms p10"
"""The fastest tenth, which says more than the median where other work shares the machine."""
FIRST: Final = "first ms"
BATCH: Final = 500
SPACE: Final = "bench"
DOCUMENTS: Final = Collection(
    "bench_documents",
    (Field("id", "text"), Field("body", "text"), Field("tenth", "int")),
    indexes=(Index(("tenth",), serves="a tenth of the documents"),),
    full_text=("body",),
    vectors=("embedding",),
)
BIG: Final = "big"
TABLE: Final = f"holdfast.{DOCUMENTS.name}"
OURS: Final = ("terms", "packed")
PACKED: Final = ("segments", "segment_parts", "voids")

Call = Callable[[int], Any]


def sheet(count: int, *, quick: bool) -> Sheet:
    """One tenant of ``count`` documents and two small ones."""
    sizes = (20, 50, 200) if quick else (100, 1_000, count)
    calls = 3 if quick else 60
    contenders = [_row(f"{way}, {_said(size)}", way, size) for size in sizes for way in _WAYS]
    big = _said(sizes[-1])
    contenders += [
        Contender(f"pgvector by hand, {_said(sizes[0])}"),
        Contender(f"pgvector by hand, {_said(sizes[1])}"),
        Contender(f"pgvector HNSW by hand, {big}"),
        Contender(f"postings table by hand, {big}"),
        Contender(f"ts_rank by hand, {big}"),
    ]
    return Sheet(
        name=f"postgres-search-{count // 1000}k",
        title=f"PostgreSQL: search in tenants of 100, 1,000 and {count:,} documents",
        figure=MS,
        base=f"postings table by hand, {big}",
        rounds=1,
        together=lambda _: _measured(sizes, calls),
        contenders=tuple(contenders),
        notes="Documents of 50 to 100 words of a Zipf vocabulary with vectors of 384 dimensions in"
        " clusters; queries of four words. Medians, the sides in turns, after five calls that are"
        " not counted. Graphs are searched equally widely on both sides. MB is what the text index"
        " takes on disk: of ours, fresh texts, places, segments and voids, with all their indexes.",
    )


_WAYS: Final = (
    "holdfast text", "holdfast vector", "holdfast vector, 10 %", "holdfast hybrid",
    "holdfast hybrid, 10 %",
)  # fmt: skip
_LIMITS: Final = {100: 2.5, 1_000: 2.5, 100_000: 15.0}


def _row(name: str, way: str, size: int) -> Contender:
    goals: list[Goal] = []
    if way == "holdfast hybrid" and size in _LIMITS:
        goals.append(Goal(_LIMITS[size], sense="at most"))
    if way == "holdfast text" and size == 100_000:
        goals.append(Goal(100, figure="MB", sense="at most"))
    if "vector" in way and size == 100_000:
        goals.append(Goal(0.99, figure="agreement"))
    return Contender(name, goals=tuple(goals))


def _said(size: int) -> str:
    return f"{size:,} documents"


def _measured(sizes: tuple[int, ...], calls: int) -> dict[str, Figures]:
    texts, vectors = Texts.make(sizes[-1], calls + 5), Vectors.make(sizes[-1], calls + 5)
    found: dict[str, Figures] = {}
    for driver, by_hand in _store(sizes, texts, vectors):
        tenants = {size: BIG if size == sizes[-1] else f"of {size}" for size in sizes}
        sides: dict[str, Call] = {}
        for size, tenant in tenants.items():
            for way in _WAYS:
                sides[f"{way}, {_said(size)}"] = _ours(driver, tenant, way, texts, vectors)
        sides |= _by_hand(by_hand, tenants, texts, vectors)
        answers: dict[str, list[list[int]]] = {}
        times: dict[str, list[float]] = {}
        for number in range(calls + 5):
            # Either way round, so that neither side always finds the pages that the other has read.
            for name, call in list(sides.items())[:: 1 if number % 2 else -1]:
                started = time.perf_counter()
                answer = call(number)
                elapsed = time.perf_counter() - started
                if number >= 5:
                    times.setdefault(name, []).append(elapsed)
                answers.setdefault(name, []).append(answer)
        found = {
            name: {MS: percentile(held, 0.5) * 1e3, BEST: percentile(held, 0.1) * 1e3}
            for name, held in times.items()
        }
        _add_quality(found, answers, _said(sizes[-1]), texts, vectors)
        _add_sizes(found, by_hand, _said(sizes[-1]))
    return found


def _add_quality(
    found: dict[str, Figures],
    answers: dict[str, list[list[int]]],
    big: str,
    texts: Texts,
    vectors: Vectors,
) -> None:
    """How much of the exact ten best the rows of the big tenant found."""
    leg = TextLeg(terms=())
    best = vectors.best("")
    tenth = numpy.flatnonzero(texts.tenth == WANTED)
    scores = vectors.rows[tenth] @ vectors.queries.T
    best_tenth = [set(tenth[c].tolist()) for c in numpy.argsort(-scores, axis=0)[:TOP].T]
    for name, given in answers.items():
        if not name.endswith(big) or "hybrid" in name:
            continue
        shares = []
        for number, answer in enumerate(given):
            if "vector" in name:
                wanted = (best_tenth if "%" in name else best)[number]
                shares.append(len(wanted & set(answer)) / len(wanted))
            else:
                scores = texts.scores(texts.queries[number], leg.k1, leg.b)
                shares.append(texts.agreement(scores, "", answer))
        found[name]["agreement"] = float(numpy.mean(shares))


def _add_sizes(found: dict[str, Figures], by_hand: psycopg.Connection[Any], big: str) -> None:
    def size(*names: str) -> float:
        total = 0.0
        for name in names:
            row = by_hand.execute("SELECT pg_total_relation_size(%s)", (name,)).fetchone()
            total += row[0] if row else 0
        return total / 1e6

    ours = [f"{TABLE}__{name}" for name in OURS] + [f"holdfast.holdfast_{n}" for n in PACKED]
    found[f"holdfast text, {big}"]["MB"] = size(*ours)
    found[f"postings table by hand, {big}"]["MB"] = size("postings")
    found[f"ts_rank by hand, {big}"]["MB"] = size("by_lexeme")


def _store(
    sizes: tuple[int, ...], texts: Texts, vectors: Vectors
) -> Iterator[tuple[PostgresDriver, psycopg.Connection[Any]]]:
    import psycopg

    from holdfast.backends.postgres import PostgresDriver
    from holdfast.testing.servers.shared import shared_url

    with new_database() as (name, role, url):
        options = {"graph_rows": max(50, min(5_000, sizes[-1]))}
        owner = PostgresDriver(shared_url(name), SystemClock(), options=options)
        owner.setup([DOCUMENTS])
        for size in sizes:
            load(owner, BIG if size == sizes[-1] else f"of {size}", texts, vectors, size)
        owner.maintain("reindex")
        owner.maintain("vacuum")
        owner.grant(role, "application")
        driver = PostgresDriver(url, SystemClock(), options=options)
        driver.setup([DOCUMENTS], create=False)
        with psycopg.connect(shared_url(name), autocommit=True) as by_hand:
            _create_peers(by_hand, texts)
            yield driver, by_hand
        owner.close()
        driver.close()


def load(
    driver: PostgresDriver, tenant: str, texts: Texts, vectors: Vectors, count: int, first: int = 0
) -> None:
    """Write documents into a tenant, some hundred a commit."""
    for start in range(first, first + count, BATCH):
        driver.apply(
            tenant,
            [
                Put(
                    DOCUMENTS.name,
                    {
                        "id": f"{n:08}",
                        "body": texts.documents[n],
                        "tenth": int(texts.tenth[n]),
                        "embedding": Vector(SPACE, vectors.rows[n].astype("<f4").tobytes()),
                    },
                    ABSENT,
                )
                for n in range(start, min(start + BATCH, first + count))
            ],
        )


def _ours(driver: PostgresDriver, tenant: str, way: str, texts: Texts, vectors: Vectors) -> Call:
    from holdfast.core.filter import EVERYTHING, eq

    def call(number: int) -> list[int]:
        text = TextLeg(terms=texts.queries[number])
        near = Vector(SPACE, vectors.queries[number].astype("<f4").tobytes())
        search = Search(
            collection=DOCUMENTS.name,
            filter=eq("tenth", WANTED) if "%" in way else EVERYTHING,
            k=TOP,
            text=None if "vector" in way else text,
            vector=None if "text" in way else VectorLeg(field="embedding", vector=near),
        )
        hits = driver.search(tenant, search)
        return [int(hit.key[0]) for hit in (*hits.text, *hits.vector)]

    return call


# --- by hand


def _create_peers(by_hand: psycopg.Connection[Any], texts: Texts) -> None:
    by_hand.execute(
        "CREATE TABLE postings (term bigint, document int, tf smallint);"
        "CREATE TABLE postings_documents (document int PRIMARY KEY, length int, body text);"
        "CREATE TABLE by_lexeme (document int PRIMARY KEY, body text, lexemes tsvector)"
    )
    lengths = []
    with by_hand.cursor() as cursor:
        with cursor.copy("COPY postings FROM STDIN") as copy:
            for number, body in enumerate(texts.documents):
                counted = term_frequencies(body)
                lengths.append(sum(counted.values()))
                for term, tf in counted.items():
                    copy.write_row((_signed(term), number, tf))
        with cursor.copy("COPY postings_documents FROM STDIN") as copy:
            for number, body in enumerate(texts.documents):
                copy.write_row((number, lengths[number], body))
    by_hand.execute(
        "CREATE INDEX ON postings (term) INCLUDE (document, tf);"
        "INSERT INTO by_lexeme SELECT document, body, to_tsvector('simple', body)"
        " FROM postings_documents;"
        "CREATE INDEX ON by_lexeme USING gin (lexemes);"
        "ANALYZE"
    )
    by_hand.execute("VACUUM postings")


def _signed(term: str) -> int:
    number = hashed(term)
    return number - (1 << 64) if number >> 63 else number


_BM25: Final = """
WITH whole AS (SELECT %s::float8 AS n, %s::float8 AS mean),
found AS (SELECT p.term, p.document, p.tf, count(*) OVER (PARTITION BY p.term) AS df
    FROM postings AS p WHERE p.term = ANY(%s))
SELECT f.document, sum(ln(1 + (n - df + .5) / (df + .5)) * tf * 1.9
    / (tf + .9 * (.25 + .75 * d.length / mean))) AS score
FROM found AS f JOIN postings_documents AS d USING (document), whole
GROUP BY f.document ORDER BY score DESC LIMIT 10
"""


def _by_hand(
    by_hand: psycopg.Connection[Any], tenants: dict[int, str], texts: Texts, vectors: Vectors
) -> dict[str, Call]:
    def ask(text: str, *values: Any) -> list[int]:
        return [int(row[0]) for row in by_hand.execute(text.encode(), values).fetchall()]

    def near(expression: str, tenant: str) -> Call:
        text = (
            f"SELECT v.id, d.body, d.tenth FROM (SELECT id FROM {TABLE}__embedding WHERE"
            f" tenant = %s AND space = '{SPACE}' AND vector_dims(data) = 384 AND NOT extreme"
            f" ORDER BY {expression} LIMIT 10) AS v"
            f" JOIN {TABLE} AS d ON d.tenant = %s AND d.id = v.id"
        )
        return lambda n: ask(text, tenant, str(vectors.queries[n].tolist()), tenant)

    counted = by_hand.execute("SELECT count(*), avg(length) FROM postings_documents").fetchone()
    assert counted is not None
    count, mean = counted[0], float(counted[1])
    *small, big = tenants
    sides = {
        f"pgvector by hand, {_said(size)}": near("data <=> %s::vector", tenants[size])
        for size in small
    }
    graph = "(l2_normalize(data)::halfvec(384)) <=> %s::halfvec(384)"
    from holdfast.backends.postgres.options import Options

    width = Options().ef_search
    by_hand.execute("SELECT set_config('hnsw.ef_search', %s, false)", (str(width),))
    whole = "SELECT b.document, d.body FROM ({}) AS b JOIN postings_documents AS d USING (document)"
    ranked = (
        "SELECT document, body FROM by_lexeme, to_tsquery('simple', %s) AS q WHERE lexemes @@ q"
        " ORDER BY ts_rank(lexemes, q) DESC LIMIT 10"
    )
    return {
        **sides,
        f"pgvector HNSW by hand, {_said(big)}": near(graph, tenants[big]),
        f"postings table by hand, {_said(big)}": lambda n: ask(
            whole.format(_BM25), count, mean,
            [_signed(term) for term in analyze(" ".join(texts.queries[n]))],
        ),
        f"ts_rank by hand, {_said(big)}": lambda n: ask(ranked, " | ".join(texts.queries[n])),
    }  # fmt: skip


# --- many tenants


def flat_sheet(tenants: int, *, quick: bool) -> Sheet:
    """Many tenants of a hundred documents: the last ones written are searched like the first."""
    name = f"postgres-tenants-{tenants // 1000}k"
    tenants, each = (20, 10) if quick else (tenants, 100)
    first = "hybrid, the first tenth of all tenants"
    return Sheet(
        name=name,
        title=f"PostgreSQL: {tenants:,} tenants of {each} documents",
        figure=MS,
        base=first,
        rounds=1,
        together=lambda _: _flat(tenants, each, 5 if quick else 200),
        contenders=(
            Contender("hybrid, the first tenth of the tenants alone in the store"),
            Contender(first),
            Contender(
                "hybrid, the last tenth of all tenants",
                goals=(Goal(1.25, first, sense="at most"),),
            ),
        ),
        notes="Medians of searches in tenants drawn at random, each twice: first ms is of the"
        " first search of this process in a tenant, which reads the tenant's texts. The first row"
        " was measured when a tenth was written, minutes before the others.",
    )


def _flat(tenants: int, each: int, calls: int) -> dict[str, Figures]:
    from holdfast.backends.postgres import PostgresDriver
    from holdfast.testing.servers.shared import shared_url

    pool = 10_000 // each
    texts, vectors = Texts.make(pool * each, calls), Vectors.make(pool * each, calls)
    tenth = max(1, tenants // 10)
    found = {}
    with new_database() as (name, role, url):
        owner = PostgresDriver(shared_url(name), SystemClock())
        owner.setup([DOCUMENTS])
        owner.grant(role, "application")

        def opened() -> PostgresDriver:
            made = PostgresDriver(url, SystemClock())
            made.setup([DOCUMENTS], create=False)
            return made

        driver = opened()

        def median(numbers: range) -> Figures:
            drawn = numpy.random.default_rng(3).choice(
                numbers, min(calls, len(numbers)), replace=False
            )
            rounds: list[list[float]] = []
            for _ in range(2):
                rounds.append([])
                for call, number in enumerate(drawn):
                    search = _ours(driver, f"t{number}", "holdfast hybrid", texts, vectors)
                    started = time.perf_counter()
                    search(call)
                    rounds[-1].append(time.perf_counter() - started)
            first, again = rounds
            return {
                MS: percentile(again, 0.5) * 1e3,
                BEST: percentile(again, 0.1) * 1e3,
                FIRST: percentile(first, 0.5) * 1e3,
            }

        for number in range(tenants):
            load(owner, f"t{number}", texts, vectors, each, each * (number % pool))
            if number + 1 == tenth:
                owner.maintain("vacuum")
                owner.maintain("analyze")
                found["hybrid, the first tenth of the tenants alone in the store"] = median(
                    range(tenth)
                )
                driver.close()  # what it held of these tenants is not to help later
                driver = opened()
        owner.maintain("vacuum")
        owner.maintain("analyze")
        found["hybrid, the first tenth of all tenants"] = median(range(tenth))
        found["hybrid, the last tenth of all tenants"] = median(range(tenants - tenth, tenants))
        driver.close()
        owner.close()
    return found
