"""How a web service uses holdfast: one handle for the process, one narrower handle per request.

    python examples/async_handler.py [FILE]

`handle` is what any async framework would call. Its writes share commits with those of the
requests beside it, and a client that hangs up leaves no half-done write.
"""

import asyncio
import sys

import holdfast.aio
from holdfast.core.errors import HoldfastError


async def handle(app: holdfast.aio.Storage, user: str, message: str, request: str) -> str:
    """Keep the message and answer with what this user, and nobody else, said before."""
    mine = app.scoped(user=user)
    try:
        found = await mine.memory.recall(message, k=1)
        # A client that repeats its request finds it done: the id makes it happen once.
        await mine.memory.remember(message, op_id=request)
    except HoldfastError as error:
        return f"{error.code}: {error}"
    return found[0].memory.content if found else "That is new to me."


async def main(path: str) -> None:
    async with holdfast.aio.open(path) as app:
        users = [f"user-{number}" for number in range(8)]
        said = [handle(app, user, f"{user} likes green tea", f"{user}/1") for user in users]
        print(len(set(await asyncio.gather(*said))), "answer for all who are new")
        asked = [handle(app, user, "Which tea was it?", f"{user}/2") for user in users]
        for user, reply in zip(users, await asyncio.gather(*asked), strict=True):
            assert reply == f"{user} likes green tea", reply
        print(len(users), "users got their own tea")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "agent.db"))
