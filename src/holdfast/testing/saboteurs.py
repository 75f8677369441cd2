"""Engines broken on purpose, each with the case that must notice.

A suite that passes on one of them is not worth running. Most are layers, so that they break any
engine; what only an engine can get wrong is a subclass of the memory engine. To break another
engine from within, give its subclass a harness in the tests of that engine and play the case.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from holdfast.backends.memory import MemoryDriver
from holdfast.core.change import (
    ABSENT,
    Change,
    Claim,
    Delete,
    DeleteWhere,
    Edit,
    Outcome,
    Patch,
    PatchWhere,
    Put,
)
from holdfast.core.collection import Collection
from holdfast.core.driver import Driver, FeedEntry, Report, Task
from holdfast.core.errors import Conflict, Unavailable
from holdfast.core.filter import EVERYTHING, And, Contains, Filter, JsonPath, Not, Or, Record
from holdfast.core.query import Query, Rows, compare_positions, desc, full_order, position
from holdfast.core.scope import Tenant
from holdfast.core.search import Hits, RecordSet, Search
from holdfast.core.values import Vector
from holdfast.layers.check import Checked
from holdfast.layers.layer import Layer
from holdfast.testing import suite
from holdfast.testing.harness import Harness
from holdfast.testing.memory import MemoryHarness
from holdfast.testing.stage import Stage
from holdfast.testing.strategies import unshrunk
from holdfast.testing.suite.driver_shared import CALLERS
from holdfast.testing.trusting import NoGuard, Trusting, TrustingFilters


class _Late(Layer):
    """Acknowledges at once and commits at the handle's next call."""

    def __init__(self, below: Driver) -> None:
        super().__init__(below)
        self._waiting: list[tuple[str, Sequence[Change], str | None]] = []

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        self._commit()
        self._waiting.append((tenant, changes, op_id))
        return [Outcome(1)] * len(changes)

    def get(
        self, tenant: str, collection: str, key: tuple[Any, ...], *, vectors: bool = False
    ) -> Record | None:
        self._commit()
        return super().get(tenant, collection, key, vectors=vectors)

    def _commit(self) -> None:
        for tenant, changes, op_id in self._waiting:
            super().apply(tenant, changes, op_id=op_id)
        self._waiting.clear()


class _EarlyGroup(_Late):
    """A group that ends before its writes are done."""

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        return Layer.apply(self, tenant, changes, op_id=op_id, op_body=op_body)

    @contextmanager
    def _postponed(self) -> Iterator[None]:
        self.apply = super().apply  # type: ignore[method-assign]
        yield

    def group(self) -> Any:
        return self._postponed()


class _Each(Layer):
    """Breaks each change of an apply; a subclass says how."""

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        broken = [self._broken(change) for change in changes]
        return self.below.apply(tenant, broken, op_id=op_id, op_body=op_body)

    def _broken(self, change: Change) -> Change:
        raise NotImplementedError


class _NoConditions(_Each):
    """Writes whatever the condition says."""

    def _broken(self, change: Change) -> Change:
        if isinstance(change, Put | Patch | Delete):
            return msgspec.structs.replace(change, when=None)
        return change


class _OldVector(_Each):
    """An edit of a vector never reaches the vector index."""

    def _broken(self, change: Change) -> Change:
        if not isinstance(change, Patch):
            return change
        kept = {k: v for k, v in change.edit.set.items() if k != "embedding"}
        return msgspec.structs.replace(change, edit=msgspec.structs.replace(change.edit, set=kept))


class _OneSpace(_Each):
    """Takes all vectors for ones of the same space."""

    def _broken(self, change: Change) -> Change:
        if isinstance(change, Put):
            return msgspec.structs.replace(change, record=_spaceless(change.record))
        if isinstance(change, Patch):
            edit = msgspec.structs.replace(change.edit, set=_spaceless(change.edit.set))
            return msgspec.structs.replace(change, edit=edit)
        return change

    def search(self, tenant: str, search: Search) -> Hits:
        if search.vector is not None:
            anywhere = Vector("", search.vector.vector.data)
            leg = msgspec.structs.replace(search.vector, vector=anywhere)
            search = msgspec.structs.replace(search, vector=leg)
        return super().search(tenant, search)


def _spaceless(fields: Record) -> Record:
    return {
        name: Vector("", value.data) if isinstance(value, Vector) else value
        for name, value in fields.items()
    }


class _Surplus(_Each):
    """A document that got shorter keeps the chunks that it no longer has."""

    def _broken(self, change: Change) -> Change:
        if isinstance(change, DeleteWhere) and change.collection == "knowledge_chunks":
            return msgspec.structs.replace(change, limit=0)
        return change


class _SharedToo(_Each):
    """A pruned checkpoint takes its logs along, whoever else uses them."""

    def _broken(self, change: Change) -> Change:
        if isinstance(change, DeleteWhere) and change.collection == "checkpoint_logs":
            assert isinstance(change.filter, And)
            return msgspec.structs.replace(change, filter=change.filter.parts[0])
        return change


class _UncountedFork(_Each):
    """A checkpoint that shares a log without appending to it is not counted among its users."""

    def _broken(self, change: Change) -> Change:
        if isinstance(change, Patch) and change.edit.increment == {"uses": 1}:
            return msgspec.structs.replace(change, edit=Edit(increment={"uses": 0}))
        return change


class _NoChecksum(_Each):
    """A checkpoint's checksum is not that of its state."""

    def _broken(self, change: Change) -> Change:
        if isinstance(change, Put) and change.collection == "checkpoints":
            return msgspec.structs.replace(change, record={**change.record, "checksum": 0})
        return change


class _LastByTime(Layer):
    """Takes the last saved checkpoint for the latest, whatever its iteration and number."""

    def query(self, tenant: Tenant, query: Query) -> Rows:
        if query.collection == "checkpoints":
            query = msgspec.structs.replace(query, order=desc("saved_at"))
        return self.below.query(tenant, query)


class _OldReaders(_Each):
    """A new access list reaches the document, and not its chunks."""

    def _broken(self, change: Change) -> Change:
        if isinstance(change, PatchWhere) and change.collection == "knowledge_chunks":
            return msgspec.structs.replace(change, filter=Or(()))
        return change


class _OldTokens(_Each):
    """What a late reader packed of a memory stays as it first was."""

    def __init__(self, below: Driver) -> None:
        super().__init__(below)
        self._first: dict[str, bytes] = {}

    def _broken(self, change: Change) -> Change:
        if not isinstance(change, Put) or change.collection != "memory_tokens":
            return change
        first = self._first.setdefault(change.record["memory_id"], change.record["tokens"])
        return msgspec.structs.replace(change, record={**change.record, "tokens": first})


class _OneByOne(Layer):
    """Each change is a transaction of its own."""

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        return [outcome for c in changes for outcome in self.below.apply(tenant, [c])]


class _NoOperations(Layer):
    """Operation ids are taken and forgotten."""

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        return self.below.apply(tenant, changes)


class _Rebodied(Layer):
    """Compares operations by what they write, which is minted anew at each call."""

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        return self.below.apply(tenant, changes, op_id=op_id)


class _OwnOperations(Layer):
    """Operation ids are kept beside the transaction: in the handle, not in the store."""

    def __init__(self, below: Driver) -> None:
        super().__init__(below)
        self._known: dict[tuple[str, str], list[Outcome]] = {}

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        if op_id is None:
            return self.below.apply(tenant, changes)
        if (tenant, op_id) not in self._known:
            self._known[tenant, op_id] = self.below.apply(tenant, changes)
        return self._known[tenant, op_id]


class _GlobalKey(Layer):
    """The key lacks the tenant, and a put replaces whoever has it."""

    def __init__(self, below: Driver) -> None:
        super().__init__(below)
        self._owners: dict[Any, str] = {}
        self._shapes: dict[str, Collection] = {}

    def setup(self, collections: Sequence[Collection], *, create: bool = True) -> None:
        super().setup(collections, create=create)
        self._shapes.update({c.name: c for c in collections})

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        for change in changes:
            if isinstance(change, Put):
                key = self._shapes[change.collection].key_of(change.record)
                owner = self._owners.setdefault((change.collection, key), tenant)
                if owner != tenant:
                    self.below.apply(owner, [Delete(change.collection, key)])
        return self.below.apply(tenant, changes, op_id=op_id, op_body=op_body)


class _ReadThenClaim(Layer):
    """Claims by reading first and patching afterwards."""

    meeting = threading.Barrier(CALLERS, timeout=60.0)
    _met = False

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        [claim] = changes if isinstance(changes[0], Claim) else [None]
        if not isinstance(claim, Claim):
            return self.below.apply(tenant, changes, op_id=op_id, op_body=op_body)
        query = Query(
            collection=claim.collection, filter=claim.filter, order=claim.order, limit=claim.limit
        )
        found = self.below.query(tenant, query).records
        self._meet()
        patches = [Patch(claim.collection, (r["id"],), claim.edit) for r in found]
        outcomes = self.below.apply(tenant, patches)
        return [Outcome(len(found), tuple(outcome.record for outcome in outcomes))]

    def _meet(self) -> None:
        """Let all callers of the case have read the same before the first of them writes."""
        if not self._met:
            self._met = True
            self.meeting.wait()


class _NodeIgnored(Layer):
    """A kind of filter node that nobody compiled selects everything."""

    def query(self, tenant: Tenant, query: Query) -> Rows:
        where = _without(query.filter)
        return self.below.query(tenant, msgspec.structs.replace(query, filter=where))


def _without(part: Filter) -> Filter:
    if isinstance(part, Contains | JsonPath):
        return EVERYTHING
    if isinstance(part, And | Or):
        return type(part)(tuple(_without(inner) for inner in part.parts))
    return Not(_without(part.part)) if isinstance(part, Not) else part


class _TimeCursor(Layer):
    """Pages continue after the order's values alone: ties at the border are lost."""

    def query(self, tenant: Tenant, query: Query) -> Rows:
        if query.after is None or not query.order:
            return self.below.query(tenant, query)
        whole = msgspec.structs.replace(query, after=None, limit=None)
        after = query.after[: len(query.order)]
        left = [
            record
            for record in self.below.query(tenant, whole).records
            if compare_positions(position(record, query.order), after, query.order) > 0
        ]
        taken = left[: query.limit]
        more = len(taken) < len(left)
        order = full_order(query.order, ("id",))
        return Rows(taken, position(taken[-1], order) if more and taken else None)


class _NoLimitZero(Layer):
    """Takes a limit of 0 for none."""

    def query(self, tenant: Tenant, query: Query) -> Rows:
        return self.below.query(tenant, msgspec.structs.replace(query, limit=query.limit or None))


class _Whole(Layer):
    """Reads every field whatever was asked for."""

    def query(self, tenant: Tenant, query: Query) -> Rows:
        return self.below.query(tenant, msgspec.structs.replace(query, fields=None))

    def search(self, tenant: str, search: Search) -> Hits:
        return self.below.search(tenant, msgspec.structs.replace(search, fields=None))


class _RawMatch(Layer):
    """User text is grammar to the full-text index."""

    def search(self, tenant: str, search: Search) -> Hits:
        terms = search.text.terms if search.text else ()
        if any(character in term for term in terms for character in "\"'*^:()-+"):
            raise Unavailable("syntax error near the search text")
        return self.below.search(tenant, search)


class _LateFilter(Layer):
    """Takes the k best first and filters them afterwards."""

    def search(self, tenant: str, search: Search) -> Hits:
        hits = self.below.search(tenant, msgspec.structs.replace(search, filter=EVERYTHING))
        kept = {key for key, record in hits.records.items() if search.filter.matches(record)}
        return msgspec.structs.replace(
            hits,
            text=tuple(hit for hit in hits.text if hit.key in kept),
            vector=tuple(hit for hit in hits.vector if hit.key in kept),
            records=RecordSet.of({key: hits.records[key] for key in hits.records if key in kept}),
        )


class _LateOneLeg(Layer):
    """Filters the text leg inside the query, the vector leg not at all."""

    def search(self, tenant: str, search: Search) -> Hits:
        text = self.below.search(tenant, msgspec.structs.replace(search, vector=None))
        anyone = msgspec.structs.replace(search, text=None, filter=EVERYTHING)
        vector = self.below.search(tenant, anyone) if search.vector is not None else Hits()
        records = RecordSet.of({**text.records, **vector.records})
        return msgspec.structs.replace(text, vector=vector.vector, records=records)


class _SkippingFeed(Layer):
    """Reads by number: what commits after a higher number was read is never told."""

    def feed(self, follower: str, *, after: int, limit: int) -> list[FeedEntry]:
        entries = self.below.feed(follower, after=after, limit=limit)
        if len(entries) > 1:
            del entries[-2]
        return entries


class _SweepEverything(Layer):
    """Expiry without its cutoff."""

    def maintain(self, task: Task, **options: Any) -> Report:
        if task == "sweep":
            options["now"] = datetime.max.replace(tzinfo=UTC)
        return self.below.maintain(task, **options)


class _SweepTooSoon(Layer):
    """Takes "before" for "at or before"."""

    def maintain(self, task: Task, **options: Any) -> Report:
        if task == "sweep":
            options["now"] += timedelta(microseconds=1)
        return self.below.maintain(task, **options)


class _WholeUnique(Layer):
    """Unique keys forget whom they select."""

    def setup(self, collections: Sequence[Collection], *, create: bool = True) -> None:
        self.below.setup(
            [
                replace(c, unique=tuple(replace(u, where=None) for u in c.unique))
                for c in collections
            ]
        )


class _Reusing(MemoryDriver):
    """Numbers a record one above the highest that is left."""

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        self._sequences.clear()
        for (owner, name), table in self._tables.items():
            for sequence in self._collections[name].sequences:
                for record in table.records.values():
                    per = (owner, name, sequence.field, *(record[f] for f in sequence.per))
                    highest = max(self._sequences.get(per, 0), record[sequence.field])
                    self._sequences[per] = highest
        return super().apply(tenant, changes, op_id=op_id, op_body=op_body)


class _Ghosts(MemoryDriver):
    """A delete leaves the text index as it was."""

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        before = {name: dict(table.terms) for name, table in self._tables.items()}
        outcomes = super().apply(tenant, changes, op_id=op_id, op_body=op_body)
        for name, terms in before.items():
            table = self._tables[name]
            table.terms.update({k: v for k, v in terms.items() if k not in table.records})
        return outcomes


def _under_check(layer: type[Layer]) -> Callable[[Driver], Driver]:
    return lambda driver: Checked(layer(driver))


@dataclass(frozen=True)
class Saboteur:
    """What is broken, how, and the case that must fail on it."""

    name: str
    case: str
    wrap: Callable[[Driver], Driver] = Checked
    engine: type[MemoryDriver] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    def play(self, harness: Harness) -> None:
        """Run the case on the broken engine; it should raise."""
        stage = Stage(MemoryHarness(self.engine) if self.engine else harness, self.wrap)
        with unshrunk():
            stage.play(self._case(), **self.arguments)

    def play_sound(self, harness: Harness) -> None:
        """Run the case on the sound engine; it should not."""
        Stage(harness).play(self._case(), **self.arguments)

    def _case(self) -> Callable[..., Any]:
        group, _, name = self.case.partition(".")
        case: Callable[..., Any] = getattr(getattr(suite, group)(), name)
        return case


def _broken(
    name: str,
    case: str,
    layer: type[Layer] = Layer,
    engine: type[MemoryDriver] | None = None,
    arguments: dict[str, Any] | None = None,
) -> Saboteur:
    return Saboteur(name, case, _under_check(layer), engine, arguments or {})


_NO_TEXT: Final = {"typed": 'say "hi'}
_NAN: Final = {"field": "score", "build": lambda: float("nan")}
_SHARED: Final = {"field": "data", "build": lambda: [["x" * 1_000] * 50] * 50}

SABOTEURS: Final = (
    _broken("acknowledge before commit",
            "TestDriverDurability.test_b20_a_write_is_there_for_others_when_it_returns", _Late),
    _broken("one key for all tenants",
            "TestDriverTenants.test_b33_the_same_keys_live_apart", _GlobalKey),
    _broken("every field read by a query",
            "TestDriverFields.test_b42_query_reads_the_fields_that_it_names", _Whole),
    _broken("every field read by a search",
            "TestDriverFields.test_b42_search_reads_the_fields_that_it_names", _Whole),
    _broken("raw text in MATCH",
            "TestDriverTextSearch.test_b26_user_text_is_never_grammar", _RawMatch,
            arguments=_NO_TEXT),
    _broken("filter node ignored",
            "TestDriverFilters.test_b21_query_selects_what_the_filters_truth_selects",
            _NodeIgnored),
    Saboteur("filter key spliced",
             "TestHostileWishes.test_b39_forged_filters_are_refused_everywhere",
             TrustingFilters, arguments={"name": "SQL as field"}),
    _broken("filter after the limit",
            "TestDriverVectorSearch.test_b28_k_means_k_behind_any_filter", _LateFilter),
    _broken("feed that skips", "TestDriverFeed.test_b31_nothing_is_skipped_while_many_write",
            _SkippingFeed),
    _broken("timestamp-only cursor", "TestDriverPages.test_b23_pages_meet_every_record_once",
            _TimeCursor),
    _broken("limit 0 is none", "TestDriverPages.test_b24_limit_zero_returns_nothing", _NoLimitZero),
    _broken("delete forgets the text index",
            "TestDriverSearchFreshness.test_b29_nothing_of_the_old_text_or_vector_is_left",
            engine=_Ghosts, arguments={"how": "delete"}),
    _broken("edit forgets the vector",
            "TestDriverSearchFreshness.test_b29_nothing_of_the_old_text_or_vector_is_left",
            _OldVector, arguments={"how": "patch"}),
    _broken("a lost lease that still writes",
            "TestMessageEmbeddings.test_f24_who_lost_the_lease_writes_nothing", _NoConditions),
    _broken("prune that drops what others share",
            "TestCheckpointGrowth.test_n9_any_step_stays_whole_when_others_are_pruned_or_deleted",
            _SharedToo),
    _broken("fork that is not counted",
            "TestCheckpointGrowth.test_n9_a_fork_shares_all_and_outlives_its_origin",
            _UncountedFork),
    _broken("append to a log that others have grown",
            "TestCheckpointsShared.test_d4_handles_that_go_apart_do_not_write_into_each_other",
            _NoConditions),
    _broken("save on top of what never committed",
            "TestCheckpointsShared.test_d4_nothing_is_built_on_what_did_not_commit", _NoConditions),
    _broken("checksum of another state",
            "TestCheckpointGrowth.test_d5_what_was_read_before_gives_way_to_what_stands_there_now",
            _NoChecksum),
    _broken("latest by time alone",
            "TestCheckpointOrder.test_d2_latest_is_of_the_highest_iteration_then_of_the_last_save",
            _LastByTime),
    _broken("packed tokens that stay",
            "TestMemoryLate.test_e8_packed_tokens_come_and_go_with_their_memory", _OldTokens),
    Saboteur("NaN accepted",
             "TestHostileRecords.test_b39_hostile_values_are_refused_and_nothing_is_written",
             Trusting, arguments=_NAN),
    Saboteur("JSON of which one part stands in many places accepted",
             "TestHostileRecords.test_b39_hostile_values_are_refused_and_nothing_is_written",
             Trusting, arguments=_SHARED),
    Saboteur("values kept in the class that they came in",
             "TestSubclasses.test_b43_a_record_of_them_is_stored_and_given_back_plain", Trusting),
    _broken("operations compared by what they write",
            "TestRepeatsInOtherClasses.test_b18_a_repeat_says_the_same_in_whatever_class_it_is_said",
            _Rebodied, arguments={"name": "text", "agent": None}),
    Saboteur("arguments unchecked",
             "TestArguments.test_p5_every_argument_is_checked_before_anything_is_read",
             Trusting, arguments={"name": "NUL"}),
    _broken("conditions ignored",
            "TestDriverApply.test_b10_a_condition_that_does_not_hold_is_a_conflict",
            _NoConditions, arguments={"when": ABSENT, "kind": Conflict}),
    _broken("flip before every memory has its vector",
            "TestMemorySpaces.test_n4_no_flip_while_a_memory_lacks_its_vector", _NoConditions),
    _broken("vectors of two spaces in one ranking",
            "TestMemorySpaces.test_n4_never_two_spaces_in_one_ranking", _OneSpace),
    _broken("cleaned although it changed since it was judged",
            "TestMemoryHygiene.test_n5_what_changed_since_it_was_judged_stays", _NoConditions),
    _broken("vector of a content that was replaced",
            "TestMemorySpaces.test_n4_content_that_changed_keeps_no_vector_of_what_it_was",
            _NoConditions),
    _broken("changes one by one", "TestDriverApply.test_b07_apply_does_all_or_none", _OneByOne,
            arguments={"spoiler": Delete("suite_parents", ("guarded",))}),
    _broken("numbers reused",
            "TestDriverSequences.test_b14_sequences_count_per_parent_without_gap_or_reuse",
            engine=_Reusing),
    _broken("unique key not partial",
            "TestDriverApply.test_b13_partial_unique_keys_hold_only_among_what_they_select",
            _WholeUnique),
    _broken("claim by read and patch", "TestDriverClaims.test_b16_no_record_goes_to_two_threads",
            _ReadThenClaim),
    _broken("operation id ignored",
            "TestDriverOperations.test_b18_a_repeat_returns_the_first_outcome_and_does_nothing",
            _NoOperations),
    _broken("operation id outside the transaction",
            "TestDriverOperations.test_b18_a_repeat_returns_the_first_outcome_and_does_nothing",
            _OwnOperations),
    _broken("group acknowledges early",
            "TestDriverGroups.test_b38_a_groups_writes_are_there_when_it_ends", _EarlyGroup),
    _broken("sweep without cutoff",
            "TestDriverUpkeep.test_b40_sweep_removes_what_expired_and_only_that", _SweepEverything),
    _broken("sweep at the instant",
            "TestDriverUpkeep.test_b40_sweep_removes_what_expired_and_only_that", _SweepTooSoon),
    _broken("newer store opened",
            "TestDriverSetup.test_b03_setup_refuses_a_newer_edition_and_writes_nothing", NoGuard),
    _broken("access list after the limit",
            "TestKnowledgeAccess.test_e5_the_best_that_admit_are_found_behind_any_that_do_not",
            _LateFilter),
    _broken("access list on one leg only",
            "TestKnowledgeAccess.test_e5_neither_leg_shows_what_does_not_admit", _LateOneLeg),
    _broken("access list on the document only",
            "TestKnowledgeAccess.test_e5_the_list_changes_at_once_for_document_and_chunks",
            _OldReaders),
    _broken("surplus chunks left",
            "TestKnowledgeChunks.test_e2_shrinking_a_document_removes_its_surplus_chunks",
            _Surplus),
    _broken("any history: conditions ignored",
            "TestStateful.test_g9_any_history_agrees_with_the_model", _NoConditions),
    _broken("any history: numbers reused",
            "TestStateful.test_g9_any_history_agrees_with_the_model", engine=_Reusing),
)  # fmt: skip
"""Every one must be caught in every run: a dead harness is a red build."""
