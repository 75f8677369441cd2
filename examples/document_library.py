"""Answers from documents: a folder is taken in, and each reader is told what they may read.

    python examples/document_library.py [STORE [FOLDER]]

Without a folder two small documents are written into the store instead. A model that is to answer
would be given what `passages` returns, and could quote the places.
"""

import sys

import holdfast
from holdfast.ingest import ingest_folder
from holdfast.stores.knowledge import Access, KnowledgeReader

TRAVEL = """# Travel

The front desk books trains. Ask two days ahead.

# Money

Receipts go to Ada, at the latest at the end of the month.
"""
SALARIES = "The front desk is paid on the last day of the month."


def passages(reader: KnowledgeReader, question: str) -> list[str]:
    """What answers the question, each with its place."""
    found = reader.search(question, limit=3)
    return [f"{hit.item.text.strip()}  [{hit.item.id}]" for hit in found]


def main(store: str, folder: str | None) -> None:
    with holdfast.open(store) as storage:
        knowledge = storage.knowledge
        if folder is None:
            knowledge.put("handbook/travel.md", TRAVEL, title="Travel", source="handbook")
            locked = Access(groups=["board"])
            knowledge.put("board/salaries.md", SALARIES, source="board", access=locked)
        else:
            report = ingest_folder(knowledge, folder)
            print(f"{sum(report.counts.values())} files, {len(report.failed)} could not be read")
        question = "When is the front desk paid?"
        for name, groups in (("a guest", []), ("the board", ["board"])):
            told = passages(knowledge.for_access(groups=groups), question)
            print(f"{name} is told {len(told)}:", *told, sep="\n  ")
        counts = knowledge.unrestricted().counts()
        print(f"{counts.documents} documents, {counts.chunks} chunks kept")


if __name__ == "__main__":
    main(
        sys.argv[1] if len(sys.argv) > 1 else "agent.db",
        sys.argv[2] if len(sys.argv) > 2 else None,
    )
