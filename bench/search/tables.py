"""The same tables for vectors alone and for both legs: rows of other stores, with both filters."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import apsw

from bench.search.data import WIDTH, Texts, Vectors

NEIGHBOURS: Final = 16
"""Links of a node in every HNSW graph."""
BUILD: Final = 200
SEARCH: Final = 100
"""Candidates while a graph is built, and while it is searched."""
BATCH: Final = 1_000
FILTERED: Final = ("tenth", "thousandth")
Rows = Vectors | Texts
"""Whatever has the fields that filters ask for."""


def batches(count: int) -> Iterator[range]:
    """The numbers of all rows, a batch at a time."""
    for start in range(0, count, BATCH):
        yield range(start, min(start + BATCH, count))


def filtered(rows: Rows, number: int) -> dict[str, int]:
    """What filters ask of a row."""
    return {name: int(getattr(rows, name)[number]) for name in FILTERED}


def sqlite_with_vec(path: Path) -> apsw.Connection:
    """A file with sqlite-vec loaded, every commit of which is synced."""
    connection = apsw.Connection(str(path))
    connection.enable_load_extension(True)
    connection.load_extension(importlib.import_module("sqlite_vec").loadable_path())
    connection.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL").fetchall()
    return connection


def vec_table(name: str) -> str:
    """The statement that makes a virtual table that is scanned."""
    fields = ", ".join(f"{field} INTEGER" for field in FILTERED)
    return (
        f"CREATE VIRTUAL TABLE {name} USING vec0 (id INTEGER PRIMARY KEY,"
        f" embedding FLOAT[{WIDTH}] DISTANCE_METRIC=cosine, {fields})"
    )


def zvec_table(
    folder: Path, vectors: Vectors, rows: Rows, columns: Mapping[str, Sequence[Any]] | None = None
) -> Any:
    """A graph over the vectors, scalar indexes, and a text index for each of the columns."""
    zvec = importlib.import_module("zvec")
    kind, columns = zvec.DataType, columns or {}
    graph = zvec.HnswIndexParam(
        metric_type=zvec.MetricType.COSINE, m=NEIGHBOURS, ef_construction=BUILD
    )
    schema = zvec.CollectionSchema(
        "rows",
        [
            *(
                zvec.FieldSchema(name, kind.STRING, index_param=zvec.FtsIndexParam())
                for name in columns
            ),
            *(
                zvec.FieldSchema(name, kind.INT64, index_param=zvec.InvertIndexParam())
                for name in FILTERED
            ),
        ],
        [zvec.VectorSchema("embedding", kind.VECTOR_FP32, WIDTH, graph)],
    )
    held = zvec.create_and_open(str(folder / "zvec"), schema)
    for span in batches(len(vectors.rows)):
        held.insert(
            [
                zvec.Doc(
                    str(n),
                    vectors={"embedding": vectors.rows[n].tolist()},
                    fields={
                        **{name: values[n] for name, values in columns.items()},
                        **filtered(rows, n),
                    },
                )
                for n in span
            ]
        )
    held.optimize()
    held.flush()
    return held


def lance_table(folder: Path, vectors: Vectors, rows: Rows, columns: Mapping[str, Any]) -> Any:
    """Columns beside the vectors, a graph over quantised ones, scalar indexes on both filters."""
    lancedb = importlib.import_module("lancedb")
    arrow = importlib.import_module("pyarrow")
    flat = arrow.array(vectors.rows.ravel())
    made = {
        **{name: arrow.array(values) for name, values in columns.items()},
        **{name: arrow.array(getattr(rows, name)) for name in FILTERED},
        "vector": arrow.FixedSizeListArray.from_arrays(flat, WIDTH),
    }
    table = lancedb.connect(str(folder)).create_table("rows", arrow.table(made))
    if len(vectors.rows) >= BATCH:  # below, it refuses to train
        table.create_index(
            metric="cosine",
            index_type="IVF_HNSW_SQ",
            num_partitions=1,
            m=NEIGHBOURS,
            ef_construction=BUILD,
        )
    for name in FILTERED:
        table.create_scalar_index(name)
    return table
