"""The disk that loses its power keeps what was synced, and only that for certain."""

import random

from soak.disk import SECTOR, Disk, Event, Storm

CALM = Storm(kept=1.0, torn=0.0, garbage=False)
HARSH = Storm(kept=0.0, torn=0.0, garbage=False)
TEARING = Storm(kept=0.0, torn=1.0, garbage=False)


def cut(disk: Disk, storm: Storm, seed: int = 1) -> dict[str, bytes]:
    return disk.cut(storm, random.Random(seed))


def replayed(*events: Event, image: dict[str, bytes] | None = None) -> Disk:
    disk = Disk(image or {})
    for event in events:
        disk.replay(event)
    return disk


def test_what_was_synced_survives_and_the_rest_may_not() -> None:
    disk = replayed(
        Event("write", "f", 0, b"new"),
        Event("sync", "f"),
        Event("write", "f", 3, b"er"),
        image={"f": b"old"},
    )
    assert cut(disk, HARSH) == {"f": b"new"}
    assert cut(disk, CALM) == {"f": b"newer"}


def test_a_new_name_needs_its_folder_synced() -> None:
    events = (Event("open", "f"), Event("write", "f", 0, b"x"), Event("sync", "f"))
    assert cut(replayed(*events), HARSH) == {}
    assert cut(replayed(*events), CALM) == {"f": b"x"}
    assert cut(replayed(*events, Event("sync_folder", "")), HARSH) == {"f": b"x"}


def test_a_deleted_file_may_come_back_until_its_folder_is_synced() -> None:
    gone = Event("delete", "f")
    assert cut(replayed(gone, image={"f": b"x"}), HARSH) == {"f": b"x"}
    assert cut(replayed(gone, image={"f": b"x"}), CALM) == {}
    assert cut(replayed(gone, Event("sync_folder", ""), image={"f": b"x"}), HARSH) == {}


def test_an_unsynced_write_tears_at_sectors_and_nowhere_else() -> None:
    start, size = 100, 4 * SECTOR
    write = Event("write", "f", start, b"n" * size)
    seen = set()
    for seed in range(30):
        data = cut(replayed(write, image={"f": b"o" * (start + size)}), TEARING, seed)["f"]
        assert data[:start] == b"o" * start
        edges = [n for n in range(1, len(data)) if data[n] != data[n - 1]]
        assert all(n == start or n % SECTOR == 0 for n in edges)
        seen.add(data)
    assert len(seen) > 5


def test_truncation_is_durable_only_when_synced() -> None:
    events = (Event("truncate", "f", 1),)
    assert cut(replayed(*events, image={"f": b"abc"}), HARSH) == {"f": b"abc"}
    assert cut(replayed(*events, Event("sync", "f"), image={"f": b"abc"}), HARSH) == {"f": b"a"}


def test_shared_memory_is_never_part_of_what_survives() -> None:
    assert cut(replayed(image={"f": b"x", "f-shm": b"y"}), CALM) == {"f": b"x"}


def test_acknowledgements_are_kept_in_their_order() -> None:
    disk = replayed(Event("acknowledge", "a"), Event("acknowledge", "b"))
    assert disk.acknowledged == ["a", "b"]
