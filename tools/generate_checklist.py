"""Write which tests prove each row of docs/checklist.md.

    python tools/generate_checklist.py           writes the column
    python tools/generate_checklist.py --check   exits with 1 when the page is stale or a row bare

A test belongs to the rows that its name begins with: ``test_b1_b11_...`` to B1 and B11. Rows that
are proved under other names are in ELSEWHERE, those proved by the contract's numbered sentences
(core/driver.py) in SENTENCES. What a row means and its remark are written by hand and kept. A row
without a test must say ``not yet: <reason>``, and a name that is given here must be there.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = Path("docs/checklist.md")
SUITE: Final = Path("src/holdfast/testing/suite")

ROW: Final = re.compile(
    r"^\| (?P<row>[A-Z]\d+) \| (?P<what>.*) \| (?P<tests>.*) \| (?P<remark>.*) \|$"
)
"""A line of the page."""
NAMED: Final = re.compile(r"test_((?:[a-z]\d+_)+)")
SENTENCE: Final = re.compile(r"b\d\d")
"""In a file about the contract b07 is its seventh sentence, anywhere else b11 is row B11."""

SENTENCES: Final[dict[str, tuple[str, ...]]] = {
    "A1": ("B01", "B02"),
    "A2": ("B04",),
    "A3": ("B02",),
    "A4": ("B04",),
    "A5": ("B36",),
    "A6": ("B37",),
    "A11": ("B34",),
    "A12": ("B10", "B11", "B12", "B19", "B30", "B39"),
    "A13": ("B18",),
    "A16": ("B07", "B38"),
    "A17": ("B09", "B10"),
    "A22": ("B14", "B16"),
    "A30": ("B35",),
    "A23": ("B22", "B23", "B26", "B27"),
    "B1": ("B33",),
    "C10": ("B14",),
    "F2": ("B27",),
    "F3": ("B26",),
    "F6": ("B28",),
    "F9": ("B29",),
    "F28": ("B30",),
    "I2": ("B16",),
}
"""Row -> sentences of the contract that carry it on every engine."""

ELSEWHERE: Final[dict[str, tuple[str, ...]]] = {
    "A2": ("tests/backends/test_sqlite_file.py::test_a_fresh_schema_equals_a_migrated_one",),
    "A3": (
        "tests/backends/test_sqlite_file.py::test_a_writer_that_waits_too_long_says_busy_and_writes_nothing",
        "tests/soak/test_campaigns.py::test_eight_processes_open_one_file_at_once",
        "tests/backends/test_postgres_faults.py::test_eight_processes_open_an_empty_database_at_once",
    ),
    "A8": ("tests/backends/test_sqlite_file.py::test_options_are_checked_by_name",),
    "A9": ("tests/backends/test_sqlite_file.py::test_normal_durability_shows_in_health",),
    "A13": (
        "tests/recall/test_gateway.py::test_passing_failures_are_tried_again",
        "tests/recall/test_gateway.py::test_lasting_failures_are_not_tried_again",
        "tests/recall/test_gateway.py::test_the_third_failure_is_the_last",
    ),
    "A15": (
        "tests/backends/test_sqlite_file.py::test_a_writer_that_waits_too_long_says_busy_and_writes_nothing",
    ),
    "A19": ("tests/layers/test_layers.py::test_a_layer_forwards_every_verb_and_its_answer",),
    "A20": (
        "tests/recall/test_gateway.py::test_the_key_is_shown_nowhere",
        "tests/recall/test_gateway.py::test_an_unusable_key_is_refused_before_any_call",
    ),
    "A21": (
        "tests/aio/test_calls.py::test_a_slow_call_holds_neither_the_loop_nor_other_calls",
        "tests/aio/test_calls.py::test_a_slow_commit_holds_neither_the_loop_nor_reads",
        "tests/aio/test_calls.py::test_two_loops_share_one_storage",
        "tests/aio/test_calls.py::test_results_are_those_of_the_plain_store",
        "tests/aio/test_lanes.py::test_calls_that_compute_for_long_take_turns",
        "tests/aio/test_lanes.py::test_they_hold_up_no_others",
        "tests/core/test_turns.py::test_much_work_lets_other_threads_run_in_between",
    ),
    "C24": (
        "tests/backends/test_sqlite_file.py::test_damaged_pages_are_corrupt_never_empty_and_salvage_counts",
    ),
    "D4": (
        "tests/aio/test_calls.py::test_a_slow_call_holds_neither_the_loop_nor_other_calls",
        "tests/aio/test_calls.py::test_a_slow_commit_holds_neither_the_loop_nor_reads",
    ),
    "E8": (
        "tests/recall/test_rerankers.py::test_no_reranker_keeps_the_order",
        "tests/recall/test_rerankers.py::test_the_best_worded_answer_scores_highest",
        "tests/recall/test_gateway.py::test_scores_come_back_in_the_order_of_the_texts",
        "tests/recall/test_gateway.py::test_incomplete_scores_are_refused",
    ),
    "F4": (
        "tests/recall/test_recipe.py::test_without_metadata_the_recipe_is_plain_convex_fusion",
        "tests/recall/test_recipe.py::test_reciprocal_ranks_are_those_of_cormack_scaled_to_one",
    ),
    "K15": (
        "tests/recall/test_gateway.py::test_batches_hold_20_texts_and_24000_characters",
        "tests/recall/test_gateway.py::test_vectors_come_back_in_order_and_unit",
        "tests/recall/test_gateway.py::test_wrong_answers_are_refused",
        "tests/recall/test_gateway.py::test_a_service_that_hangs_is_left_in_time",
        "tests/recall/test_gateway.py::test_passing_failures_are_tried_again",
    ),
    "K16": (
        "tests/recall/test_embedders.py::test_vectors_are_the_same_on_every_machine",
        "tests/recall/test_embedders.py::test_every_text_has_a_finite_unit_vector",
        "tests/recall/test_embedders.py::test_the_space_names_width_and_analysis",
    ),
    "K17": (
        "tests/recall/test_gateway.py::test_a_base_url_may_name_its_version",
        "tests/recall/test_gateway.py::test_vectors_come_back_in_order_and_unit",
        "tests/recall/test_gateway.py::test_an_unusable_key_is_refused_before_any_call",
    ),
    "N6": (
        "tests/backends/test_sqlite_analysis.py::test_terms_are_made_anew_when_the_analysis_has_changed",
    ),
    "F23": (
        "tests/recall/test_deadline.py::test_f23_a_memory_whose_model_is_late_is_kept_and_queued",
    ),
}
"""Row -> tests outside the suite, or under another name."""


@dataclass(frozen=True)
class Proofs:
    """What the tree's tests prove: by row, by sentence, and all of them by id."""

    rows: dict[str, list[str]]
    sentences: dict[str, list[str]]
    ids: set[str]


def proofs(root: Path) -> Proofs:
    """The tests of the shipped suite and of tests/."""
    found = Proofs(defaultdict(list), defaultdict(list), set())
    for path in sorted([*(root / SUITE).glob("*.py"), *(root / "tests").rglob("test_*.py")]):
        of_contract = path.parent == root / SUITE and path.stem.startswith(("driver_", "hostile"))
        for name in _tests(path):
            test_id = f"{path.relative_to(root).as_posix()}::{name}"
            found.ids.add(test_id)
            shown = name if path.parent == root / SUITE else test_id
            named = NAMED.match(name)
            for row in named[1].strip("_").split("_") if named else ():
                of = found.sentences if of_contract and SENTENCE.fullmatch(row) else found.rows
                of[row.upper()].append(shown)
    return found


def _tests(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
            "test"
        ):
            yield node.name


def page(text: str, found: Proofs) -> str:
    """The page with its column of tests made anew."""
    return "\n".join(_line(line, found) for line in text.split("\n"))


def _line(line: str, found: Proofs) -> str:
    row = ROW.match(line)
    if row is None:
        return line
    return f"| {row['row']} | {row['what']} | {_proved(row['row'], found)} | {row['remark']} |"


def _proved(row: str, found: Proofs) -> str:
    own = [*sorted(found.rows.get(row, [])), *ELSEWHERE.get(row, ())]
    shown = [f"`{name}`" for name in dict.fromkeys(own)]
    shown += [f"sentence {name}" for name in SENTENCES.get(row, ())]
    return "<br>".join(shown) or "-"


def faults(text: str, found: Proofs) -> list[str]:
    """Rows without proof or reason, and names of this file that stand for nothing."""
    rows = {row["row"]: row for row in map(ROW.match, text.split("\n")) if row}
    told = [
        f"{name}: no test proves it, and it does not say `not yet: <reason>`"
        for name, row in rows.items()
        if _proved(name, found) == "-" and not re.match(r"not yet: \S", row["remark"])
    ]
    given = [(name, test) for name, tests in ELSEWHERE.items() for test in tests]
    told += [f"{name}: there is no {test}" for name, test in given if test not in found.ids]
    promised = [(name, one) for name, sentences in SENTENCES.items() for one in sentences]
    told += [f"{n}: no test proves sentence {s}" for n, s in promised if s not in found.sentences]
    told += [f"{n}: is not on the page" for n in sorted({*ELSEWHERE, *SENTENCES} - rows.keys())]
    if not rows:
        told.append("the page has no rows")
    return told


def main() -> None:
    """Write the page, or say what is wrong with it."""
    path, found = ROOT / PAGE, proofs(ROOT)
    held = path.read_text(encoding="utf-8")
    if wrong := faults(held, found):
        sys.exit("\n".join(wrong))
    fresh = page(held, found)
    if "--check" in sys.argv[1:]:
        if fresh != held:
            sys.exit(f"{PAGE} is stale; run python tools/generate_checklist.py")
        return
    path.write_text(fresh, encoding="utf-8")


if __name__ == "__main__":
    main()
