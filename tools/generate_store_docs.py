"""Write the tables of verbs in docs/stores/*.md from the stores' own docstrings.

    python tools/generate_store_docs.py           writes the tables
    python tools/generate_store_docs.py --check   exits with 1 when a page is stale

A page says which stores it is about by its marks, ``<!-- verbs of storage.memory -->``; all else on
it is written by hand and kept. A store without a page fails the check.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from holdfast import stores
from holdfast.stores import STORES
from holdfast.stores.store import Store

PAGES = Path(__file__).resolve().parents[1] / "docs" / "stores"
MARKED = re.compile(
    r"(<!-- verbs of storage\.(?P<name>\w+) -->\n).*?(<!-- end of verbs -->)", re.DOTALL
)


def page(text: str) -> str:
    """The page with its tables made anew."""
    return MARKED.sub(lambda found: f"{found[1]}\n{tables(found['name'])}\n{found[3]}", text)


def tables(name: str) -> str:
    """The store's verbs, then those of each facet."""
    kind = STORES[name]
    return "\n".join(line for path, part in _parts(name, kind) for line in _table(path, part))


def stores_without_page(texts: list[str]) -> list[str]:
    """Stores that no page has a mark for."""
    marked = {found["name"] for text in texts for found in MARKED.finditer(text)}
    return sorted(STORES.keys() - marked)


def _parts(path: str, kind: type[Store]) -> Iterator[tuple[str, type[Store]]]:
    yield path, kind
    for name, member in _members(kind):
        if isinstance(member, property | cached_property):
            getter = member.fget if isinstance(member, property) else member.func
            facet = _kinds().get(getter.__annotations__["return"])
            if facet is not None:
                yield from _parts(f"{path}.{name}", facet)


@cache
def _kinds() -> dict[str, type[Store]]:
    """Every store and facet by its name; facets are imported when used, so here all are."""
    modules = pkgutil.walk_packages(stores.__path__, f"{stores.__name__}.")
    found = [vars(import_module(module.name)).values() for module in modules]
    kinds = {kind for values in found for kind in values if isinstance(kind, type)}
    return {kind.__name__: kind for kind in kinds if issubclass(kind, Store)}


def _table(path: str, kind: type[Store]) -> Iterator[str]:
    yield f"| `storage.{path}` | {_summary(kind)} |"
    yield "|---|---|"
    for name, member in _members(kind):
        if inspect.isfunction(member) and not _is_inner(member):
            yield f"| `{name}({_arguments(member)})` | {_summary(member)} |"
    yield ""


def _members(kind: type[Store]) -> Iterator[tuple[str, Any]]:
    """What the class and its bases define for users, the class's own first."""
    seen: set[str] = set()
    for base in kind.__mro__[: kind.__mro__.index(Store)]:
        for name, member in vars(base).items():
            if not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name, member


def _is_inner(method: Callable[..., Any]) -> bool:
    """Whether it hands changes of the contract to another store, and so is no user's verb."""
    return "Change" in str(inspect.signature(method).return_annotation)


def _arguments(method: Callable[..., Any]) -> str:
    """Those that must be given, and dots where more may be."""
    parameters = [p for p in inspect.signature(method).parameters.values() if p.name != "self"]
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    return ", ".join([*needed, *(["..."] if len(needed) < len(parameters) else [])])


def _summary(documented: object) -> str:
    """The first paragraph of a docstring, as one line."""
    text = inspect.getdoc(documented) or ""
    line = " ".join(text.partition("\n\n")[0].split())
    return line.replace("``", "`").replace("|", "\\|")


def main() -> None:
    """Write the pages, or say which are stale."""
    held = {path: path.read_text(encoding="utf-8") for path in sorted(PAGES.glob("*.md"))}
    if missing := stores_without_page(list(held.values())):
        sys.exit(f"no page of docs/stores has the verbs of {', '.join(missing)}")
    stale = [path for path, text in held.items() if page(text) != text]
    if "--check" in sys.argv[1:]:
        if stale:
            names = ", ".join(path.name for path in stale)
            sys.exit(f"{names}: stale; run python tools/generate_store_docs.py")
        return
    for path in stale:
        path.write_text(page(held[path]), encoding="utf-8")


if __name__ == "__main__":
    main()
