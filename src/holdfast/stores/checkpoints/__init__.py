"""Checkpoints: what an agent was about, kept at every step at the cost of what changed."""

from typing import TYPE_CHECKING

from holdfast.core.lazy import attributes_of

if TYPE_CHECKING:
    from holdfast.stores.checkpoints.checkpoints import Checkpoints
    from holdfast.stores.checkpoints.policy import CheckpointPolicy, SaveStrategy
    from holdfast.stores.checkpoints.records import (
        Checkpoint,
        CheckpointStats,
        LoadedCheckpoint,
    )

__all__ = [
    "Checkpoint",
    "CheckpointPolicy",
    "CheckpointStats",
    "Checkpoints",
    "LoadedCheckpoint",
    "SaveStrategy",
]

__getattr__ = attributes_of(
    __name__,
    {
        "Checkpoint": "records",
        "CheckpointPolicy": "policy",
        "CheckpointStats": "records",
        "Checkpoints": "checkpoints",
        "LoadedCheckpoint": "records",
        "SaveStrategy": "policy",
    },
)
