"""An agent's turn: recall what is known, answer, keep what was said and learned.

    python examples/agent_loop.py [FILE]

`answer` stands where your model does. All that a turn leaves behind is written as one unit: after
a crash it is there as a whole or not at all.
"""

import sys

import holdfast
from holdfast import Storage


def answer(question: str, known: list[str]) -> str:
    """What a model would say to the question, given what is known."""
    return f"As far as I know: {known[0]}" if known else f"I do not know yet: {question}"


def turn(storage: Storage, conversation_id: str, question: str) -> str:
    """Answer one question, and keep both sides of it."""
    known = [found.memory.content for found in storage.memory.recall(question, k=3)]
    reply = answer(question, known)
    with storage.unit() as unit:
        unit.conversations.append(conversation_id, question, role="user")
        unit.conversations.append(conversation_id, reply, role="assistant")
        unit.audit.append("turn.answered", subject=conversation_id, data={"recalled": len(known)})
    return reply


def main(path: str) -> None:
    with holdfast.open(path, agent="guide") as storage:
        storage.memory.remember("The museum opens at ten on weekdays.", tags=["museum"])
        storage.memory.remember("Ada is afraid of heights.", speaker="Ada")
        chat = storage.conversations.create(key="visit-7", title="A visit")
        for question in ("When does the museum open?", "What is Ada afraid of?"):
            print(f"> {question}\n{turn(storage, chat.id, question)}")
        print(f"{len(storage.conversations.messages.page(chat.id))} messages kept")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "agent.db")
