"""What each noun's commands do to a store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.recall.embedders import HashEmbedder
from tests.cli.conftest import Shell


def test_a_key_is_set_read_listed_and_deleted(shell: Shell) -> None:
    assert shell.json("kv", "set", "a", "hello")["value"] == "hello"
    assert shell.ok("kv", "get", "a") == "hello\n"
    shell.ok("kv", "set", "b", '{"x": [1, null]}', "--as", "json")
    assert json.loads(shell.ok("kv", "get", "b")) == {"x": [1, None]}
    assert shell.json("kv", "get", "b")["revision"] == 1
    assert [item["key"] for item in shell.json("kv", "list")["items"]] == ["a", "b"]
    assert shell.ok("-q", "kv", "list", "b") == "b\n"
    shell.refused(2, "kv", "delete", "a")
    assert "Would delete" in shell.run("kv", "delete", "a", "--dry-run").stderr
    assert shell.ok("kv", "get", "a") == "hello\n"
    shell.ok("kv", "delete", "a", "--yes")
    shell.refused(3, "kv", "get", "a")
    shell.refused(3, "kv", "delete", "a", "--yes")


def test_a_key_keeps_to_its_version(shell: Shell) -> None:
    shell.ok("kv", "set", "a", "1", "--expected-version", "0")
    assert "error:" in shell.refused(4, "kv", "set", "a", "2", "--expected-version", "0")
    shell.ok("kv", "set", "a", "2", "--expected-version", "1", "--ttl", "60")
    assert shell.json("kv", "list")["items"][0]["expires_at"] is not None


def test_text_stays_text_unless_it_is_said_to_be_json(shell: Shell) -> None:
    shell.ok("kv", "set", "a", "3")
    assert shell.json("kv", "get", "a")["value"] == "3"
    shell.ok("kv", "set", "a", "3", "--as", "json")
    assert shell.json("kv", "get", "a")["value"] == 3


def test_a_conversation_lives(shell: Shell) -> None:
    made = shell.json("conversation", "create", "--key", "k", "--title", "T", "--meta", "n=1")
    assert made["metadata"] == {"n": 1}
    assert shell.json("conversation", "create", "--key", "k")["id"] == made["id"]
    shell.ok("conversation", "append", "k", "the kettle is on")
    shell.ok("conversation", "append", made["id"], "-", "--role", "assistant", stdin="two\nlines\n")
    shell.ok("conversation", "append", "k", "once", "--external-id", "x")
    shell.ok("conversation", "append", "k", "once", "--external-id", "x")
    texts = [m["text"] for m in shell.json("conversation", "messages", "k")["items"]]
    assert texts == ["the kettle is on", "two\nlines", "once"]
    [last] = shell.json("conversation", "messages", "k", "--backward", "--limit", "1")["items"]
    assert last["text"] == "once"
    none = shell.json("conversation", "messages", "k", "--to", "2001-01-01")
    assert none == {"items": [], "next_cursor": None}
    hit = shell.json("conversation", "search", "kettle", "--in", "k")["items"][0]
    assert (hit["text"], hit["sender"], hit["legs"]) == ("the kettle is on", None, "text")
    stood = shell.json("conversation", "embed", "--limit", "2")
    assert (stood["made"], stood["embedded"], stood["missing"]) == (2, 2, 1)
    assert shell.json("conversation", "embed")["missing"] == 0
    near = shell.json("conversation", "search", "kettles", "--mode", "vector")["items"]
    assert (near[0]["text"], near[0]["legs"]) == ("the kettle is on", "vector")
    shell.refused(4, "conversation", "append", "k", "late", "--expected-head", "1")
    shell.ok("conversation", "update", "k", "--status", "closed", "--summary", "tea")
    assert shell.json("conversation", "show", "k")["summary"] == "tea"
    assert shell.json("conversation", "list", "--status", "open")["items"] == []
    told = shell.refused(2, "conversation", "delete", "k")
    assert "its 3 messages" in told
    assert "--yes" in told
    shell.ok("conversation", "delete", "k", "--yes")
    shell.refused(3, "conversation", "show", "k")


def test_pages_are_walked(shell: Shell) -> None:
    for number in range(7):
        shell.ok("kv", "set", f"k{number}", "v")
    first = shell.run("kv", "list", "--limit", "3", "-q")
    assert first.stdout.split() == ["k0", "k1", "k2"]
    assert "--cursor " in first.stderr
    page = shell.json("kv", "list", "--limit", "3")
    rest = shell.ok("kv", "list", "-q", "--limit", "9", "--cursor", page["next_cursor"])
    assert rest.split() == ["k3", "k4", "k5", "k6"]
    assert len(shell.ok("kv", "list", "--all", "-q").split()) == 7
    shell.refused(2, "kv", "list", "--cursor", "forged")
    shell.refused(2, "kv", "list", "--limit", "0")


def test_a_memory_lives(shell: Shell) -> None:
    tea = shell.json(
        *("remember", "Ada drinks tea", "--speaker", "Ada", "--tag", "drink", "--kind", "fact"),
        *("--session", "s", "--turn", "3", "--meta", "cups=2", "--said-at", "2026-01-02"),
    )
    assert (tea["speaker"], tea["turn"], tea["metadata"]) == ("Ada", 3, {"cups": 2})
    assert tea["said_at"] == "2026-01-02T00:00:00Z"
    again = shell.json("remember", "Ada drinks tea", "--session", "s", "--turn", "3")
    assert again["id"] == tea["id"]
    coffee = shell.json("remember", "-", stdin="Bob drinks coffee\n")
    assert coffee["content"] == "Bob drinks coffee"
    assert shell.json("memory", "get", tea["id"])["content"] == "Ada drinks tea"
    beginning = next(tea["id"][:n] for n in range(36) if not coffee["id"].startswith(tea["id"][:n]))
    assert shell.json("memory", "get", beginning)["id"] == tea["id"]
    shell.refused(4, "memory", "get", tea["id"][:4])
    listed = shell.json("memory", "list", "--tag", "drink")["items"]
    assert [item["id"] for item in listed] == [tea["id"]]
    assert shell.json("memory", "list", "--meta", "cups=3")["items"] == []
    better = shell.json("memory", "correct", tea["id"], "Ada drinks cocoa", "--by", "me")
    assert shell.json("memory", "get", tea["id"])["superseded_by"] == better["id"]
    shell.refused(4, "memory", "correct", tea["id"], "Ada drinks water")
    shell.ok("memory", "pin", better["id"])
    assert shell.json("memory", "list", "--sort", "importance")["items"]
    shell.ok("memory", "unpin", better["id"])
    actions = [event["action"] for event in shell.json("memory", "history", tea["id"])["items"]]
    assert actions == ["corrected"]
    stats = shell.json("memory", "stats")
    assert (stats["total"], stats["live"], stats["states"]["superseded"]) == (3, 2, 1)


def test_what_is_forgotten_is_not_recalled_until_restored(shell: Shell) -> None:
    held = shell.json("remember", "the safe is behind the painting")["id"]
    shell.ok("memory", "forget", held)
    assert shell.json("recall", "safe painting")["items"] == []
    shell.refused(3, "memory", "get", held)
    shell.refused(3, "memory", "forget", held)
    shell.ok("memory", "restore", held)
    assert len(shell.json("recall", "safe painting")["items"]) == 1
    shell.refused(2, "memory", "delete", held)
    shell.ok("memory", "delete", held, "--yes")
    shell.refused(3, "memory", "get", held)
    assert shell.json("memory", "purge", "--yes") == {"expired": 0, "closed": 0}


def test_recall_answers_as_of_then_and_now(shell: Shell) -> None:
    old = shell.json("remember", "Ada lives in Rome", "--valid-from", "2026-01-01")["id"]
    new = shell.json("remember", "Ada lives in Oslo", "--valid-from", "2026-02-01")["id"]
    shell.ok("memory", "supersede", old, new, "--at", "2026-02-01", "--by", "me")
    then = shell.json("recall", "where does Ada live", "--as-of", "2026-01-15")["items"]
    now = shell.json("recall", "where does Ada live")["items"]
    assert [item["memory"]["id"] for item in then] == [old]
    assert [item["memory"]["id"] for item in now] == [new]
    shell.ok("memory", "contradict", new, "--by", "Ada")
    assert shell.json("recall", "where does Ada live")["items"] == []


def test_recall_explains_itself(shell: Shell) -> None:
    shell.ok("remember", "the kettle is broken")
    found = shell.json("recall", "kettle", "--explain", "-k", "3")
    [item] = found["items"]
    assert item["legs"] == ["text", "vector"]
    assert item["parts"]
    assert found["stages"]["mode"] == "hybrid"
    line = shell.ok("recall", "kettle", "--mode", "keyword")
    assert line.split("\t")[2:] == ["text", "the kettle is broken\n"]
    [object_] = [json.loads(text) for text in shell.ok("recall", "kettle", "--jsonl").splitlines()]
    assert object_["memory"]["content"] == "the kettle is broken"
    assert shell.json("recall", "kettle", "--threshold", "99")["items"] == []


def test_a_task_is_posted_claimed_and_finished(shell: Shell) -> None:
    low = shell.json("task", "add", "later", "--priority", "low")
    top = shell.json("task", "add", "first", "--priority", "urgent", "--meta", "a=b")
    wait = shell.json("task", "add", "waits", "--after", low["id"])
    assert wait["state"] == "blocked"
    assert "lease_token" not in top
    assert shell.json("task", "list")["items"][0]["id"] == top["id"]
    [claimed] = shell.json("task", "claim", "--worker", "w")["items"]
    assert claimed["id"] == top["id"]
    token = claimed["lease_token"]
    assert token not in shell.ok("task", "show", top["id"], "--json")
    shell.refused(4, "task", "complete", top["id"], "--lease", "wrong")
    shell.ok("task", "extend", top["id"], "--lease", token, "--lease-seconds", "60")
    done = shell.json("task", "complete", top["id"], "--lease", token, "--result", '{"ok": 1}')
    assert (done["state"], done["result"]) == ("completed", {"ok": 1})
    [again] = shell.json("task", "claim", "--worker", "w", "--id", low["id"])["items"]
    failed = shell.json(
        *("task", "fail", low["id"], "--lease", again["lease_token"], "--error", "tired")
    )
    assert (failed["state"], failed["error"]) == ("pending", "tired")
    shell.refused(3, "task", "claim", "--worker", "w")
    shell.ok("task", "cancel", low["id"], "--reason", "no need")
    assert shell.json("task", "counts")["cancelled"] == 1
    [hit] = shell.json("task", "search", "waits")["items"]
    assert hit["id"] == wait["id"]
    assert shell.json("task", "show", wait["id"][:36])["id"] == wait["id"]


def test_a_task_is_given_back(shell: Shell) -> None:
    made = shell.json("task", "add", "t", "--key", "once")
    assert shell.json("task", "add", "t", "--key", "once")["id"] == made["id"]
    [claimed] = shell.json("task", "claim", "--worker", "w")["items"]
    back = shell.json("task", "release", made["id"], "--lease", claimed["lease_token"])
    assert (back["state"], back["attempts"]) == ("pending", 0)


def test_the_audit_log_is_checked(shell: Shell) -> None:
    for name in ("login", "read", "logout"):
        shell.ok("audit", "append", name, "--actor", "ada", "--data", '{"n": 1}')
    entries = shell.json("audit", "list", "--actor", "ada")["items"]
    assert [(e["action"], e["data"]) for e in entries] == [
        (name, {"n": 1}) for name in ("logout", "read", "login")
    ]
    assert shell.json("audit", "verify")["ok"] is True
    anchor = shell.ok("audit", "anchor")
    assert shell.json("audit", "verify", "--anchor", "-", stdin=anchor)["anchored_seq"] == 3
    [only] = shell.json("audit", "verify", "--every")["items"]
    assert only["entries"] == 3


def test_a_forged_log_is_told_by_the_exit_status(shell: Shell) -> None:
    shell.ok("audit", "append", "login")
    shell.ok("audit", "append", "logout")
    anchor = json.loads(shell.ok("audit", "anchor"))
    forged = json.dumps({**anchor, "hash": "0" * 64})
    done = shell.run("audit", "verify", "--anchor", "-", stdin=forged)
    assert done.exit_code == 1
    assert "rewritten at entry 2" in done.stderr


def test_an_anchor_is_signed_by_a_key_from_a_file(shell: Shell) -> None:
    shell.ok("audit", "append", "login")
    key, other = shell.folder / "key", shell.folder / "other"
    key.write_bytes(b"0123456789abcdef")
    other.write_bytes(b"fedcba9876543210")
    anchor = shell.folder / "anchor.json"
    anchor.write_text(shell.ok("audit", "anchor", "--key-file", str(key)))
    shell.ok("audit", "verify", "--anchor", str(anchor), "--key-file", str(key))
    shell.refused(2, "audit", "verify", "--anchor", str(anchor), "--key-file", str(other))


def test_what_is_bound_narrows(shell: Shell) -> None:
    shell.ok("--agent", "a", "remember", "a's secret word")
    shell.ok("remember", "b's secret word", "--agent", "b")

    def seen(*bound: str) -> list[Any]:
        return [m["content"] for m in shell.json("memory", "list", *bound)["items"]]

    assert seen("--agent", "a") == ["a's secret word"]
    assert len(seen()) == 2
    assert seen("--tenant", "other") == []
    assert seen("--agent", "a", "--user", "u") == []


@pytest.mark.parametrize("place", ["before", "after"])
def test_an_option_may_stand_before_or_after_the_name(place: str, shell: Shell) -> None:
    shell.ok("kv", "set", "a", "1")
    args = ["--json", "kv", "list"] if place == "before" else ["kv", "list", "--json"]
    assert json.loads(shell.ok(*args))["items"][0]["key"] == "a"


def test_memories_move_to_another_model(shell: Shell) -> None:
    with holdfast.open(shell.store, embedder=HashEmbedder(64)) as storage:
        storage.memory.remember_many([f"note {n} about tea" for n in range(5)])
    told = shell.refused(2, "recall", "tea")
    assert "holdfast memory reembed" in told
    assert "/64" in told
    moved = shell.json("memory", "reembed", "--keep-old", "--batch", "2")
    assert moved["space"].endswith("/1024")
    assert moved["kept"].endswith("/64")
    assert len(shell.json("recall", "tea")["items"]) == 5
    assert shell.json("memory", "reembed", "--drop-old") == {"cancelled": False, "dropped": True}
    assert shell.json("memory", "reembed", "--cancel") == {"cancelled": False, "dropped": False}
    assert shell.json("memory", "reembed") == {**moved, "kept": None}
    shell.refused(2, "memory", "reembed", "--embedder", "none")


def test_memories_are_cleaned(shell: Shell) -> None:
    for text in ("ok thanks", "yes!", "Ada drinks tea"):
        shell.ok("remember", text)
    report = {one["category"]: one for one in shell.json("memory", "hygiene")["items"]}
    assert (report["junk"]["count"], report["echo"]["count"]) == (2, 0)
    assert "junk" in shell.ok("memory", "hygiene")
    page = shell.json("memory", "hygiene", "junk", "--limit", "1")
    assert page["items"][0]["category"] == "junk"
    rest = shell.json("memory", "hygiene", "junk", "--cursor", page["next_cursor"])
    assert len(rest["items"]) == 1
    assert "yes!" in shell.ok("memory", "hygiene", "junk")
    told = shell.refused(2, "memory", "hygiene", "junk", "--clean")
    assert "forget 2 memories" in told
    assert "Would forget 2" in shell.run("memory", "hygiene", "junk", "--clean", "--dry-run").stderr
    cleaned = shell.json("memory", "hygiene", "junk", "--clean", "--yes")
    assert (cleaned["count"], cleaned["spared"]) == (2, 0)
    assert len(shell.json("memory", "list")["items"]) == 1
    shell.ok("memory", "restore", page["items"][0]["memory"]["id"])
    shell.refused(2, "memory", "hygiene", "dust")


def test_a_recall_tells_how_it_came_about(shell: Shell) -> None:
    for number in range(12):
        shell.ok("remember", f"kayak trip {number}{number}", "--speaker", "Bob")
    answer = shell.json("recall", "Bob's kayak", "-k", "2", "--explain")
    assert answer["stages"]["query"]["names_cut"] == ["Bob"]
    assert len(answer["stages"]["candidates"]) == 12
    floor = ("--threshold", "90", "--threshold-kind", "percentile")
    told = shell.refused(2, "recall", "kayak", *floor)
    assert "holdfast memory calibrate" in told
    assert shell.json("memory", "calibrate")["memories"] == 12
    shell.ok("recall", "kayak", *floor)


def test_a_checkpoint_is_listed_read_forked_pruned_and_deleted(
    shell: Shell, tmp_path: Path
) -> None:
    state = b"\x00\xff" + b"state " * 900
    with holdfast.open(shell.store) as storage:
        ids = [
            storage.checkpoints.save(state + bytes([n]), iteration=n, session_id="s").id
            for n in range(5)
        ]
    listed = shell.json("checkpoint", "list", "--session", "s", "--limit", "2")["items"]
    assert [item["id"] for item in listed] == [ids[4], ids[3]]
    assert shell.json("checkpoint", "get", ids[4])["size"] == len(state) + 1
    shell.ok("checkpoint", "get", ids[4], "--output", str(tmp_path / "state"))
    assert (tmp_path / "state").read_bytes() == state + b"\x04"
    fork = shell.json("checkpoint", "fork", ids[4], "t")["id"]
    assert len(shell.json("checkpoint", "list")["items"]) == 6
    shell.refused(2, "checkpoint", "prune", "--keep", "1", "--session", "s")
    pruned = shell.json("checkpoint", "prune", "--keep", "1", "--session", "s", "--yes")
    assert pruned == {"deleted": 4}
    assert shell.json("checkpoint", "stats")["checkpoints"] == 2
    shell.ok("checkpoint", "delete", ids[4], "--yes")
    shell.refused(3, "checkpoint", "get", ids[4])
    shell.refused(3, "checkpoint", "delete", ids[4], "--yes")
    with holdfast.open(shell.store) as storage:
        loaded = storage.checkpoints.load(fork)
        assert loaded is not None
        assert loaded.state == state + b"\x04"
