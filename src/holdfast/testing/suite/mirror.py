"""The transcript mirror: C23."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.driver import Driver, FeedEntry
from holdfast.core.errors import Forbidden, Unsupported
from holdfast.journal.mirror import TranscriptMirror
from holdfast.storage import Storage
from holdfast.testing.threads import together


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _texts(path: Path) -> list[str]:
    return [line["record"]["text"] for line in _lines(path) if line["change"] == "put"]


class _Down:
    """A follower that fails as often as it is told to."""

    name = "down"

    def __init__(self, failures: int) -> None:
        self._failures = failures
        self.taken: list[FeedEntry] = []

    def position(self) -> int:
        return self.taken[-1].position if self.taken else 0

    def take(self, entries: Sequence[FeedEntry]) -> None:
        if self._failures:
            self._failures -= 1
            raise OSError("the other side is away")
        self.taken += entries


class TestMirror:
    @pytest.fixture
    def path(self, tmp_path: Path, driver: Driver) -> Path:
        """Where the transcript goes; an engine without a feed has one case here."""
        if not driver.capabilities.feed:
            pytest.skip(f"no feed: {driver.capabilities.feed.reason}")
        return tmp_path / "transcript.jsonl"

    def test_c23_an_engine_without_a_feed_says_so(self, storage: Storage, tmp_path: Path) -> None:
        mirror = TranscriptMirror(tmp_path / "t.jsonl")
        if storage._driver.capabilities.feed:
            assert storage.follow(mirror).catch_up() == 0
        else:
            with pytest.raises(Unsupported):
                storage.follow(mirror)

    def test_c23_every_message_becomes_a_line_in_order(self, storage: Storage, path: Path) -> None:
        following = storage.follow(TranscriptMirror(path))
        made = storage.conversations.create().id
        sent = [storage.conversations.append(made, f"ü {n}\n\u2028") for n in range(3)]
        storage.conversations.messages.remove(sent[1].id)
        following.catch_up()
        lines = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
        assert [line["change"] for line in lines] == ["put", "put", "put", "delete"]
        assert [line["record"]["text"] for line in lines[:3]] == [m.text for m in sent]
        assert [line["record"]["sequence"] for line in lines[:3]] == [1, 2, 3]
        assert lines[3]["key"] == [sent[1].id]
        positions = [line["position"] for line in lines]
        assert positions == sorted(set(positions))
        assert following.catch_up() == 0
        assert following.progress.failures == 0

    def test_c23_a_new_file_is_for_its_owner_alone_and_another_keeps_its_mode(
        self, storage: Storage, path: Path
    ) -> None:
        following = storage.follow(TranscriptMirror(path))
        made = storage.conversations.create().id
        for mode in (0o600, 0o640):
            if mode != 0o600:
                path.chmod(mode)
            storage.conversations.append(made, "for nobody else")
            following.catch_up()
            assert path.stat().st_mode & 0o777 == mode

    def test_c23_it_goes_on_where_its_file_ends(
        self, open_storage: Callable[..., Storage], path: Path
    ) -> None:
        storage = open_storage()
        storage.follow(TranscriptMirror(path)).catch_up()
        made = storage.conversations.create().id
        storage.conversations.append(made, "one")
        storage.follow(TranscriptMirror(path)).catch_up()
        again = open_storage()
        again.conversations.append(made, "two")
        again.follow(TranscriptMirror(path)).catch_up()
        storage.follow(TranscriptMirror(path)).catch_up()
        assert _texts(path) == ["one", "two"]

    def test_c23_a_torn_line_is_written_again(self, storage: Storage, path: Path) -> None:
        mirror = TranscriptMirror(path)
        storage.follow(mirror)
        made = storage.conversations.create().id
        for text in ("one", "x" * 200_000):
            storage.conversations.append(made, text)
        # Taken but not trimmed, as when the process dies between the two.
        entries = storage._driver.feed(mirror.name, after=0, limit=100)
        mirror.take(entries)
        whole = path.read_bytes()
        for cut in (1, 2, 70_000, len(whole) - whole.index(b"\n") - 2, len(whole) - 1):
            path.write_bytes(whole[:-cut])
            mirror.take([e for e in entries if e.position > mirror.position()])
            assert path.read_bytes() == whole

    def test_c23_a_crash_between_write_and_trim_repeats_nothing(
        self, storage: Storage, path: Path
    ) -> None:
        mirror = TranscriptMirror(path)
        storage.follow(mirror)
        made = storage.conversations.create().id
        for n in range(5):
            storage.conversations.append(made, str(n))
        entries = storage._driver.feed(mirror.name, after=0, limit=100)
        mirror.take(entries)
        mirror.take(entries[2:])
        path.write_bytes(path.read_bytes()[:-3])
        storage.follow(TranscriptMirror(path)).catch_up()
        assert _texts(path) == ["0", "1", "2", "3", "4"]

    def test_c23_a_failing_mirror_never_fails_the_writer_and_is_counted(
        self, storage: Storage, path: Path
    ) -> None:
        path.mkdir()
        following = storage.follow(TranscriptMirror(path))
        made = storage.conversations.create().id
        storage.conversations.append(made, "kept")
        for count in (1, 2):
            assert following.catch_up() == 0
            assert following.progress.failures == count
        assert following.progress.last_error
        path.rmdir()
        storage.conversations.append(made, "later")
        assert following.catch_up() > 0
        assert _texts(path) == ["kept", "later"]
        assert following.progress.failures == 2

    def test_c23_a_file_of_something_else_is_left_alone(self, storage: Storage, path: Path) -> None:
        path.write_text("my diary\n")
        following = storage.follow(TranscriptMirror(path))
        made = storage.conversations.create().id
        storage.conversations.append(made, "x")
        assert following.catch_up() == 0
        assert following.progress.failures == 1
        assert "Corrupt" in following.progress.last_error
        assert path.read_text() == "my diary\n"

    def test_c23_what_a_follower_failed_to_take_is_offered_again(
        self, storage: Storage, path: Path
    ) -> None:
        follower = _Down(failures=2)
        following = storage.follow(follower)
        made = storage.conversations.create().id
        for n in range(3):
            storage.conversations.append(made, str(n))
        assert [following.catch_up() for _ in range(2)] == [0, 0]
        assert following.catch_up() == len(follower.taken)
        texts = [e.record["text"] for e in follower.taken if e.record and "text" in e.record]
        assert texts == ["0", "1", "2"]
        assert following.progress.failures == 2

    def test_c23_two_mirrors_of_one_file_write_each_line_once(
        self, open_storage: Callable[..., Storage], path: Path
    ) -> None:
        handles = [open_storage(), open_storage()]
        followings = [handle.follow(TranscriptMirror(path)) for handle in handles]
        made = handles[0].conversations.create().id

        def work(number: int) -> None:
            for n in range(10):
                handles[number].conversations.append(made, f"{number}-{n}")
                followings[number].catch_up()

        together([partial(work, number) for number in range(2)])
        for following in followings:
            following.catch_up()
            assert following.progress.failures == 0
        assert sorted(_texts(path)) == sorted(f"{i}-{n}" for i in range(2) for n in range(10))
        sequences = [line["record"]["sequence"] for line in _lines(path)]
        assert sequences == list(range(1, 21))

    def test_c23_a_file_is_held_while_it_is_written(self, path: Path) -> None:
        fcntl = pytest.importorskip("fcntl", reason="no file locks to look at on this system")
        refused: list[bool] = []

        class Looking:
            """An entry that tries to take the file at the moment when it is looked at."""

            tenant, collection, key, revision = "default", "messages", ("m",), 1
            at, record, read = None, None, False

            @property
            def position(self) -> int:
                with path.open("rb") as other:
                    try:
                        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        refused.append(True)
                    else:
                        refused.append(False)
                return 1

        TranscriptMirror(path).take([Looking()])  # type: ignore[list-item]
        assert refused
        assert all(refused)

    def test_b1_a_mirror_leaves_out_other_tenants_when_given_them(
        self, storage: Storage, path: Path
    ) -> None:
        mirror = TranscriptMirror(path, tenant="other")
        storage.follow(mirror)
        storage.conversations.append(storage.conversations.create().id, "mine")
        mirror.take(storage._driver.feed(mirror.name, after=0, limit=100))
        assert mirror.position() == 0
        assert not path.exists()

    def test_b1_a_mirror_writes_its_own_tenant_only(self, storage: Storage, path: Path) -> None:
        other = storage.scoped(tenant="other")
        following = storage.follow(TranscriptMirror(path))
        for handle, text in ((storage, "mine"), (other, "theirs")):
            handle.conversations.append(handle.conversations.create().id, text)
        following.catch_up()
        assert _texts(path) == ["mine"]
        follower = _Down(failures=0)
        spying = storage.follow(follower)
        other.conversations.append(other.conversations.create().id, "theirs too")
        spying.catch_up()
        assert follower.taken == []
        with pytest.raises(Forbidden):
            storage.with_agent("a").follow(TranscriptMirror(path))
