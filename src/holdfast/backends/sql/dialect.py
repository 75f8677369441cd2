"""A dialect is a small object of fragments: how one SQL engine says what the planner means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from holdfast.core.collection import Collection
from holdfast.core.query import Bucket
from holdfast.core.values import Kind

Codec = Callable[[Any], Any]


def quoted(name: str) -> str:
    """An identifier from a declared collection, quoted."""
    return '"' + name.replace('"', '""') + '"'


class Dialect(ABC):
    """Fragments take column expressions that are already quoted, and use ``mark`` for values."""

    mark: str
    """The placeholder of one bound value."""

    def column(self, name: str) -> str:
        """A declared field's name in a statement."""
        return quoted(name)

    def limit(self, count: int, values: list[Any]) -> str:
        """How many rows at most: a mark, whose value is appended, or the number itself."""
        values.append(count)
        return self.mark

    def stated(self, value: Any) -> str | None:
        """As text, a value that a partial index's condition names: so the index is seen to fit.

        None where the engine looks at bound values too.
        """
        return None

    @abstractmethod
    def encoder(self, kind: Kind) -> Codec | None:
        """Turns a field's value into what the driver library binds; None where nothing is due."""

    @abstractmethod
    def decoder(self, kind: Kind) -> Codec | None:
        """The way back."""

    @abstractmethod
    def table(self, collection: Collection) -> str:
        """The collection's table, quoted and qualified."""

    @abstractmethod
    def in_list(self, column: str) -> str:
        """The column is in one bound list (see ``bind_list``)."""

    @abstractmethod
    def bind_list(self, values: list[Any]) -> Any:
        """A list as one bound value."""

    @abstractmethod
    def contains(self, column: str, mode: str) -> str:
        """A text-list column holds all, or any, of one bound list."""

    @abstractmethod
    def json_compare(self, column: str, op: str, kind: str) -> str:
        """A JSON path, bound twice, has a scalar of this kind that compares so with a value."""

    @abstractmethod
    def bind_path(self, path: tuple[str, ...]) -> Any:
        """A JSON path as one bound value."""

    @abstractmethod
    def json_exists(self, column: str) -> str:
        """A JSON path, bound once, leads to something other than null."""

    @abstractmethod
    def bucket(self, column: str, bucket: Bucket) -> str:
        """The first instant of the calendar unit that a time column falls in."""

    @abstractmethod
    def exact_sum(self, column: str) -> str:
        """The sum of an int column, whatever its size, in a form that `read_sum` takes."""

    @abstractmethod
    def read_sum(self, value: Any) -> int:
        """What `exact_sum` gave, as a number."""

    def extremum(self, column: str, measure: str, kind: Kind) -> str:
        """The ``min`` or ``max`` of a column of this kind."""
        return f"{measure}({column})"

    @abstractmethod
    def append(self, column: str) -> str:
        """A text-list column with what it lacks of one bound list appended."""

    @abstractmethod
    def merge(self, column: str) -> str:
        """A json column with the top-level keys of one bound object merged in."""

    @abstractmethod
    def greatest(self, left: str, right: str) -> str:
        """The larger of two expressions that are not null."""

    @abstractmethod
    def least(self, left: str, right: str) -> str:
        """The smaller of two expressions that are not null."""

    @abstractmethod
    def sort_term(self, column: str, descending: bool) -> str:
        """One ORDER BY term with null before every value."""
