"""What checkpoints make of a file."""

from __future__ import annotations

import random
from pathlib import Path

import holdfast


def test_n9_a_conversation_of_a_thousand_steps_is_a_file_of_less_than_3_mb(tmp_path: Path) -> None:
    rng = random.Random(2)
    lines: list[bytes] = []
    with holdfast.open(str(tmp_path / "agent.db"), durability="normal", embedder=None) as storage:
        for step in range(1_000):
            lines.append(rng.randbytes(300).hex().encode())
            storage.checkpoints.save(b"[" + b",".join(lines) + b"]", iteration=step)
        stats = storage.checkpoints.stats()
    assert stats.checkpoints == 1_000
    assert stats.state_bytes > 300_000_000
    assert (tmp_path / "agent.db").stat().st_size < 3_000_000
    with holdfast.open(str(tmp_path / "agent.db"), embedder=None) as storage:
        assert storage.checkpoints.prune(keep=10) == 990
        for found in storage.checkpoints.list():
            loaded = storage.checkpoints.load(found.id)
            assert loaded is not None
            assert loaded.state == b"[" + b",".join(lines[: found.iteration + 1]) + b"]"
