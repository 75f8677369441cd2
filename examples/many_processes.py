"""Several processes on one file: one posts tasks, workers claim them, each task once.

    python examples/many_processes.py [FILE]

Nothing coordinates the workers but the file. The first of them dies in the middle of its work: its
lease runs out, and another takes the task up.
"""

import os
import subprocess
import sys
import time

import holdfast

TASKS = 12
LEASE_SECONDS = 1.0


def work(path: str, name: str, *, dies: bool) -> None:
    """Claim and complete until nothing is left; or die with a task in hand."""
    with holdfast.open(path) as storage:
        while storage.tasks.counts()["completed"] < TASKS:
            storage.tasks.upkeep.reclaim()
            claimed = storage.tasks.claim(name, lease_seconds=LEASE_SECONDS)
            if not claimed:
                time.sleep(0.05)
            for task in claimed:
                if dies:
                    os._exit(1)
                storage.tasks.complete(task.id, task.lease_token, result={"by": name})


def main(path: str) -> None:
    with holdfast.open(path) as storage:
        for number in range(TASKS):
            storage.tasks.post(f"Summarise page {number}", idempotency_key=f"page-{number}")
        command = [sys.executable, __file__, path]
        subprocess.run([*command, "dies"], check=False)
        workers = [subprocess.Popen([*command, name]) for name in ("one", "two")]
        for worker in workers:
            worker.wait()
        done = storage.tasks.list(limit=100)
        print(f"{sum(task.state == 'completed' for task in done)} of {TASKS} completed")
        print(f"{sum(task.attempts > 1 for task in done)} taken up again")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        work(sys.argv[1], sys.argv[2], dies=sys.argv[2] == "dies")
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else "agent.db")
