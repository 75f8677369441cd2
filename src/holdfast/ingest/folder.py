"""A folder of files as a source of knowledge: walked, read, and taken in file by file.

Each file that is done is written into the ledger with a fingerprint of its bytes, so that a run
that was cut short is simply repeated, and what has not changed is not even parsed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from holdfast.core.errors import (
    Conflict,
    DimensionMismatch,
    HoldfastError,
    Invalid,
    NotFound,
    TooLarge,
    Unsupported,
)
from holdfast.core.values import check_text, check_texts
from holdfast.ingest.extract import EXTRACTION_VERSION, KINDS, extract
from holdfast.stores.given import check_function, instance_of
from holdfast.stores.knowledge.access import Access
from holdfast.stores.knowledge.fields import check_name
from holdfast.stores.knowledge.knowledge import Knowledge

FILE_BYTES_LIMIT: Final = 64 * 1024 * 1024
"""Largest file that is read."""

Status = Literal["created", "replaced", "amended", "unchanged", "removed", "failed"]
STATUSES: Final[tuple[Status, ...]] = (
    "created",
    "replaced",
    "amended",
    "unchanged",
    "removed",
    "failed",
)


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which files of a folder. Patterns match the path below the folder, and its last part."""

    include: Sequence[str] = ()
    """Only these; without any, every file of a known kind."""
    exclude: Sequence[str] = ()
    recursive: bool = True
    hidden: bool = False
    """Also what begins with a dot."""

    def takes(self, item: str) -> bool:
        """Whether the file at this path is meant."""
        if any(_matches(item, pattern) for pattern in self.exclude):
            return False
        if self.include:
            return any(_matches(item, pattern) for pattern in self.include)
        return Path(item).suffix.lower() in KINDS


class FileResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one file."""

    item: str
    """Its path below the folder, with "/"."""
    status: Status
    document_id: str | None = None
    chunks: int = 0
    reason: str | None = None
    """Why nothing could be made of it."""


class FolderIngest(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a run over a folder."""

    run_id: str
    source: str
    counts: dict[str, int]
    chunks: int
    failed: list[FileResult]


Watch = Callable[[FileResult, int, int], object]
"""Told of a file, of how many are done, and of how many there are."""


def files_of(folder: str | os.PathLike[str], choice: Choice | None = None) -> list[str]:
    """The paths below the folder of the files that are meant, sorted.

    Links that lead out of the folder are not followed, and nothing that is not a plain file is
    read. NotFound when there is no such folder.
    """
    choice, root = _checked(choice), _root(folder)
    found: list[str] = []
    for place, names, files in os.walk(root, onerror=_raise):
        if not choice.hidden:
            names[:] = [name for name in names if not name.startswith(".")]
            files = [name for name in files if not name.startswith(".")]  # noqa: PLW2901
        if not choice.recursive:
            names.clear()
        for name in files:
            path = Path(place, name)
            # Unlike `Path.resolve` it raises nothing for a link that leads to itself.
            inside = Path(os.path.realpath(path)).is_relative_to(root)
            item = path.relative_to(root).as_posix()
            if inside and path.is_file() and choice.takes(item):
                found.append(item)
    return sorted(found)


def ingest_folder(
    knowledge: Knowledge,
    folder: str | os.PathLike[str],
    *,
    source: str | None = None,
    choice: Choice | None = None,
    stated: Mapping[str, Any] | None = None,
    remove_missing: bool = False,
    moved: bool = False,
    watch: Watch | None = None,
) -> FolderIngest:
    """Take in every file that is meant, and say what became of them.

    Documents are named ``source/path``, and the source is the folder as it is given unless it is
    named. ``stated`` is what `Knowledge.put` takes besides, such as ``access`` and ``sets``.
    ``remove_missing`` deletes documents whose file is gone. A file that cannot be read is in
    ``failed`` with the reason, and ends nothing. ``watch`` is told of each file, of how many are
    done and of how many there are.

    NotFound when there is no such folder; Conflict when the source was taken from another one,
    unless ``moved`` says that it is the same.
    """
    check_function("watch", watch)
    root = _root(folder)
    name = check_name("source", Path(folder).as_posix() if source is None else source)
    items = files_of(root, choice)
    work = _Folder(knowledge, root, name, stated or {}, watch or (lambda *_: None))
    if not moved:
        work.check_place()
    return work.run(items, remove_missing=remove_missing)


class _Folder:
    """One run over one folder."""

    def __init__(
        self,
        knowledge: Knowledge,
        root: Path,
        source: str,
        stated: Mapping[str, Any],
        watch: Watch,
    ) -> None:
        self._knowledge = knowledge
        self._root = root
        self._source = source
        self._stated = dict(stated)
        self._counts = dict.fromkeys(map(str, STATUSES), 0)
        self._chunks = 0
        self._failures: list[FileResult] = []
        self._watch = watch
        self._run_id: str | None = None

    def check_place(self) -> None:
        """Conflict when documents of this source came from another folder."""
        held = self._knowledge.unrestricted().list(sources=[self._source], limit=1).items
        if held and held[0].uri is not None and not held[0].uri.startswith(self._root.as_uri()):
            raise Conflict(
                f"The source {self._source!r} was taken from another folder.",
                hint="Name this one otherwise, or say that the folder moved.",
            )

    def run(self, items: Sequence[str], *, remove_missing: bool) -> FolderIngest:
        """All files, under a run that is noted as succeeded only when it came to its end."""
        begun = self._knowledge.runs.put(self._source)
        self._run_id = begun.id
        try:
            for item in items:
                self._note(self._file(item), len(items))
            if remove_missing:
                for result in self._removed():
                    self._note(result, len(items))
        except BaseException:
            self._end(begun.id, "failed", error="It was cut short.")
            raise
        self._end(begun.id, "succeeded", cursor=begun.started_at.isoformat())
        return FolderIngest(
            run_id=begun.id,
            source=self._source,
            counts=self._counts,
            chunks=self._chunks,
            failed=self._failures,
        )

    def _end(self, run_id: str, status: Any, **more: Any) -> None:
        put = self._knowledge.runs.put
        put(self._source, run_id=run_id, status=status, counts=self._counts, **more)

    def _note(self, result: FileResult, total: int) -> None:
        self._counts[result.status] += 1
        self._chunks += result.chunks
        if result.status == "failed":
            self._failures.append(result)
        self._watch(result, sum(self._counts.values()), total)

    def _file(self, item: str) -> FileResult:
        """Take one file in, unless it is as it was."""
        try:
            data = self._read(item)
            fingerprint = self._fingerprint(data)
            seen = self._knowledge.ledger.get(self._source, item)
            if seen is not None and seen.fingerprint == fingerprint and seen.error is None:
                return FileResult(item=item, status="unchanged", document_id=seen.document_id)
            result = self._taken_in(item, data)
        except DimensionMismatch:
            raise  # the store is at fault, and not the file
        except (Invalid, Unsupported, Conflict, OSError) as error:
            return self._failed(item, error)
        self._knowledge.ledger.note(
            self._source, item, fingerprint, document_id=result.document_id, run_id=self._run_id
        )
        return result

    def _taken_in(self, item: str, data: bytes) -> FileResult:
        found = extract(item, data)
        path = self._root / item
        metadata = {"kind": found.kind, **found.metadata}
        fields: dict[str, Any] = {"title": found.title, "metadata": metadata, **self._stated}
        changed = datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
        done = self._knowledge.put(
            f"{self._source}/{item}",
            found.text,
            source=self._source,
            uri=path.as_uri(),
            modified_at=changed,
            run_id=self._run_id,
            **fields,
        )
        return FileResult(
            item=item,
            status=done.status,
            document_id=done.document.id,
            chunks=done.document.chunks,
        )

    def _failed(self, item: str, error: Exception) -> FileResult:
        """Note why; what was made of the file before stays."""
        reason = _reason(error)
        try:
            seen = self._knowledge.ledger.get(self._source, item)
            document_id = None if seen is None else seen.document_id
            self._knowledge.ledger.note(
                self._source,
                item,
                "unread",
                document_id=document_id,
                error=reason[:2_000],
                run_id=self._run_id,
            )
        except Invalid:
            pass  # its very name cannot be written down; the result says so
        return FileResult(item=item, status="failed", reason=reason)

    def _removed(self) -> Iterator[FileResult]:
        """Delete the documents of files that are gone."""
        gone, cursor = [], None
        while True:
            page = self._knowledge.ledger.list(source=self._source, limit=1_000, cursor=cursor)
            gone += [entry for entry in page if not (self._root / entry.item).exists()]
            cursor = page.next_cursor
            if cursor is None:
                break
        for entry in gone:
            if entry.document_id is not None:
                self._knowledge.delete(entry.document_id)
            self._knowledge.ledger.forget(self._source, [entry.item])
            yield FileResult(item=entry.item, status="removed", document_id=entry.document_id)

    def _read(self, item: str) -> bytes:
        path = self._root / item
        size = path.stat().st_size
        if size > FILE_BYTES_LIMIT:
            raise TooLarge("file", expected=f"at most {FILE_BYTES_LIMIT} bytes", got=f"{size}")
        return path.read_bytes()

    def _fingerprint(self, data: bytes) -> str:
        """Equal when neither the bytes nor what is made of them would be others."""
        policy = self._knowledge._policy
        said = {k: _plain(v) for k, v in self._stated.items()}
        made = (EXTRACTION_VERSION, policy.chunk_characters, policy.chunk_overlap, said)
        head = hashlib.sha256(msgspec.json.encode(made, order="sorted"))
        return f"{hashlib.sha256(data).hexdigest()}/{head.hexdigest()[:16]}"


def _checked(choice: Choice | None) -> Choice:
    choice = Choice() if choice is None else instance_of("choice", choice, Choice)
    for name in ("include", "exclude"):
        check_texts(name, getattr(choice, name))
    return choice


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value) if isinstance(value, Access) else value


def _root(folder: str | os.PathLike[str]) -> Path:
    if not isinstance(folder, str | os.PathLike):
        raise Invalid("folder", expected="a path", got=folder)
    root = Path(os.path.realpath(check_text("folder", os.fspath(folder))))
    if not root.is_dir():
        raise NotFound(f"There is no folder {os.fspath(folder)}.")
    return root


def _matches(item: str, pattern: str) -> bool:
    return fnmatchcase(item, pattern) or fnmatchcase(item.rpartition("/")[2], pattern)


def _reason(error: Exception) -> str:
    if isinstance(error, HoldfastError):
        return f"{error.message} {error.hint}".strip()
    told = error.strerror if isinstance(error, OSError) else None
    return told or type(error).__name__


def _raise(error: OSError) -> None:
    raise error
