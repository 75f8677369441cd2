"""Graphs over vectors (pgvector's HNSW): one for a space and width in which some tenant is big.

The table holds vectors of several spaces and widths, so each graph is a partial index over an
expression of one width. Vectors are brought to length 1 before they are halved: a half holds
nothing above 65,504, and a cosine does not depend on length.
"""

from __future__ import annotations

import hashlib
from typing import Final

from holdfast.backends.postgres.dialect import PostgresDialect, literal
from holdfast.backends.postgres.names import short
from holdfast.backends.sql.dialect import quoted
from holdfast.core.collection import Collection

GRAPH_WIDTH_LIMIT: Final = 4_000
"""Widest half-precision vector that pgvector's graphs take."""
_GRAPH: Final = "graph"


def direction(vectors: str, column: str, width: int) -> str:
    """The expression that graphs are over; a query must use this very one."""
    ns = quoted(vectors)
    return f"({ns}.l2_normalize({column})::{ns}.halfvec({width}))"


def graph_name(
    dialect: PostgresDialect, collection: Collection, field: str, space: str, width: int
) -> str:
    """The name of a graph, with its schema."""
    prefix = graph_prefix(collection, field)
    digest = hashlib.sha256(f"{space} {width}".encode()).hexdigest()[:16]
    return f"{dialect.schema}.{quoted(f'{prefix}{digest}')}"


def graph_prefix(collection: Collection, field: str) -> str:
    """What the names of all graphs over a vector field begin with."""
    return f"{short(f'{collection.name}__{field}_{_GRAPH}')[:46]}_"


def covered(name: str) -> str:
    """An expression: whether this graph is there and complete."""
    return (
        "coalesce((SELECT indisvalid FROM pg_catalog.pg_index"
        f" WHERE indexrelid = pg_catalog.to_regclass({literal(name)})), FALSE)"
    )
