"""Taking memories out, in and away: over HTTP and by the command line, beside a gateway that runs and without one."""

import asyncio
import json
import subprocess
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from gateway.storage.lance.store import MemoryStore
from tests.fakes.faults import refuse_texts_with
from tests.fakes.process import command
from tests.fakes.running import Reply, Running, configuration, eventually, running_gateway
from tests.fakes.upstream import FakeUpstream, pause

KEYS: list[dict[str, Any]] = [
    {"key": "key-of-admin", "tenant": "acme", "rights": ["chat", "memory", "admin"]},
    {"key": "key-of-app", "tenant": "acme"},
    {"key": "key-of-other", "tenant": "other", "rights": ["chat", "memory", "admin"]},
]
ADMIN, APP, OTHER = ({"x-gateway-key": key["key"]} for key in KEYS)
FACTS = [
    "My cat is called Miso and sleeps all day.",
    "我的生日是五月八日，请别忘记。",
    "The car is a red Volvo from 1987.",
]


async def tell(gateway: Running, user: str, facts: list[str] | None = None, **headers: str) -> None:
    for number, fact in enumerate(facts or FACTS):
        reply = await gateway.chat(fact, user=user, session=f"{user}{number}", headers=headers)
        assert reply.status == 200
    await gateway.settled()


async def lines(gateway: Running, query: str = "", headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    reply = await gateway.get(f"/v1/memory/export{query}", headers)
    assert reply.status == 200, reply.body
    return [json.loads(line) for line in reply.body.splitlines()]


async def take_in(gateway: Running, exported: list[dict[str, Any]], query: str = "") -> Reply:
    raw = b"\n".join(json.dumps(line).encode() for line in exported)
    return await gateway.post(f"/v1/memory/import{query}", None, raw=raw)


async def gateway_command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await command("memory", *arguments, "--config", str(folder / "config.yaml"))


async def test_what_is_exported_from_one_gateway_is_known_to_another(tmp_path: Path, upstream: FakeUpstream) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with running_gateway(configuration(tmp_path / "one", upstream.url)) as gateway:
        await tell(gateway, "ada")
        await tell(gateway, "bob", ["Bob likes trains more than planes."])
        exported = await lines(gateway)
        assert {line["user_id"] for line in exported} == {"ada", "bob"}
        assert {line["text"] for line in await lines(gateway, "?user=ada") if line["source"] == "user"} == set(FACTS)
        assert len(await lines(gateway, "?user=ada&session=ada1")) == 2
    async with running_gateway(configuration(tmp_path / "two", upstream.url)) as gateway:
        assert (await take_in(gateway, exported)).json == {"imported": len(exported), "unchanged": 0}
        assert (await take_in(gateway, exported)).json == {"imported": 0, "unchanged": len(exported)}
        reading = {"x-memory-mode": "read"}
        found = await gateway.chat("What is my cat called?", user="ada", headers=reading)
        assert found.headers["x-memory-status"] == "hit"
        assert "Miso" in upstream.last.body.decode()
        assert "Volvo" not in (await gateway.chat("Which car?", user="bob", headers=reading)).body.decode()
        again = await lines(gateway)
        assert sorted(again, key=lambda line: str(line["id"])) == sorted(exported, key=lambda line: str(line["id"]))


async def test_what_was_deleted_comes_back_with_an_import(gateway: Running, upstream: FakeUpstream) -> None:
    await tell(gateway, "ada")
    exported = await lines(gateway, "?user=ada")
    assert (await gateway.post("/v1/memory/forget", {"user": "ada"})).json == {
        "deleted": len(exported),
        "purged": False,
    }
    assert await lines(gateway) == []
    assert (await gateway.chat("What is my cat called?", user="ada")).headers["x-memory-status"] == "miss"
    assert (await take_in(gateway, exported)).json["imported"] == len(exported)
    await gateway.chat("What is my cat called?", user="ada", session="later")
    assert "Miso" in upstream.last.body.decode()


@pytest.mark.parametrize("changes", [{"auth__keys": KEYS}])
async def test_only_an_admin_keeps_the_memory_and_only_of_the_own_tenant(gateway: Running) -> None:
    await tell(gateway, "ada", None, **ADMIN)
    for headers in (APP, {}):
        status = 403 if headers else 401
        assert (await gateway.get("/v1/memory/export", headers)).status == status
        assert (await gateway.post("/v1/memory/forget", {"everything": True}, headers)).status == status
        assert (await gateway.post("/v1/memory/import", None, headers, raw=b"")).status == status
    assert await lines(gateway, headers=OTHER) == []
    assert (await gateway.get("/v1/memory/export?tenant=acme", OTHER)).status == 403
    assert (await gateway.post("/v1/memory/forget", {"everything": True}, OTHER)).json["deleted"] == 0
    exported = await lines(gateway, headers=ADMIN)
    assert len(exported) == 6
    raw = b"\n".join(json.dumps(line).encode() for line in exported)
    assert (await gateway.post("/v1/memory/import", None, OTHER, raw=raw)).json["imported"] == 6, "as its own"
    assert {line["tenant"] for line in await lines(gateway, headers=OTHER)} == {"other"}
    assert len(await lines(gateway, headers=ADMIN)) == 6


@pytest.mark.parametrize(
    ("line", "where"),
    [
        (b"{", "line 2 is not valid JSON"),
        (b"[]", "line 2"),
        (b'{"id": "x"}', "`id`"),
        (b'{"text": 3}', "line 2"),
        (b'{"event_time": 1e30}', "line 2"),
    ],
)
async def test_a_bad_line_is_named(gateway: Running, line: bytes, where: str) -> None:
    good = {
        "id": "a" * 32,
        "cube_id": "ada",
        "owner": "ada",
        "user_id": "ada",
        "text": "A good line.",
        "event_time": 1.7e9,
        "created_at": 1.7e9,
        "updated_at": 1.7e9,
    }
    reply = await gateway.post("/v1/memory/import", None, raw=json.dumps(good).encode() + b"\n" + line)
    assert reply.status == 400
    assert where in reply.error["message"]


@pytest.mark.parametrize("body", [{}, {"user": ""}, {"ids": ["nonsense"]}, {"surprise": 1}, [], {"purge": True}])
async def test_forgetting_wants_to_know_what(gateway: Running, body: Any) -> None:
    await tell(gateway, "ada")
    assert (await gateway.post("/v1/memory/forget", body)).status == 400
    assert len(await lines(gateway)) == 6


def files_with(folder: Path, text: str) -> list[str]:
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "tokenizers" not in path.parts and text.encode() in path.read_bytes()
    ]


async def test_a_purge_leaves_no_text_of_a_user_on_the_disk(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url)
    async with running_gateway(config) as gateway:
        await tell(gateway, "ada-lovelace")
        await tell(gateway, "bob", ["Bob likes trains more than planes."])
        message = {
            "user_id": "ada-lovelace",
            "agent_id": "helper",
            "messages": [{"role": "user", "content": "A word to the helper agent."}],
        }
        assert (await gateway.post("/product/add", message)).status == 200
        await gateway.settled()
        assert await asyncio.to_thread(files_with, config.data_folder, "called Miso and sleeps")
        reply = await gateway.post("/v1/memory/forget", {"user": "ada-lovelace", "purge": True})
        assert reply.json["purged"], reply.json
        for text in ("called Miso and sleeps", "五月八日", "red Volvo", "the helper agent", "ada-lovelace"):
            assert await asyncio.to_thread(files_with, config.data_folder, text) == [], text
        assert len(await lines(gateway)) == 2, "others keep theirs"
        await tell(gateway, "ada-lovelace", ["I am here again."])
        assert len(await lines(gateway, "?user=ada-lovelace")) == 2
    async with running_gateway(config) as gateway:
        assert len(await lines(gateway)) == 4


async def test_what_was_deleted_leaves_the_disk_by_itself(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url)
    async with running_gateway(config) as gateway:
        await tell(gateway, "ada")
        (cat, *_) = [line for line in await lines(gateway) if "Miso" in line["text"]]
        (car, *_) = [line for line in await lines(gateway) if "Volvo" in line["text"]]
        await gateway.post("/product/delete_memory", {"memory_ids": [cat["id"]], "writable_cube_ids": ["ada"]})
        await gateway.post(
            "/product/update/memory", {"memory_id": car["id"], "content": "No car any more.", "user_id": "ada"}
        )
        await lines(gateway)  # all of that is stored
        assert "red Volvo" in str(await lines(gateway)), "the earlier text is history"
        await gateway.post("/product/delete_memory", {"memory_ids": [car["id"]], "writable_cube_ids": ["ada"]})
        await lines(gateway)
        retention = gateway.gateway.memory.retention
        assert retention is not None
        import time

        assert await retention.purge(time.time()) == 0, "not yet"
        assert await asyncio.to_thread(files_with, config.data_folder, "called Miso and sleeps")
        assert await retention.purge(time.time() + 25 * 3600) == 1
        for text in ("called Miso and sleeps", "red Volvo"):
            left = [
                name for name in await asyncio.to_thread(files_with, config.data_folder, text) if "journal" not in name
            ]
            assert left == [], text
        assert await asyncio.to_thread(files_with, config.data_folder, "called Miso and sleeps") == []
        assert await retention.purge(time.time() + 25 * 3600) == 0
        assert not {"No car any more.", car["text"]} & {line["text"] for line in await lines(gateway)}


async def test_tasks_can_go_earlier_than_what_was_told(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, memory__retention={"max_age_days": {"task": 30}})
    task = "Write a regex that matches UK postcodes."
    told = (
        "My sister Hannah moved to York yesterday.",
        "I want a divorce.",
        "Check-in is on 3 September at 14:00.",
        "- alarm code 4471\n- wifi tulip\n- bins Thursday",
        "Can you remember that the spare key is under the pot?",
        "Do you know my dog died?",
        "给我看病的医生姓陈。",
    )
    async with running_gateway(config) as gateway:
        for number, text in enumerate((task, *told)):
            await gateway.chat(text, session=f"s{number}")
        await gateway.settled()
        retention = gateway.gateway.memory.retention
        assert retention is not None
        assert await retention.sweep(time.time() + 29 * 86_400) == 0
        assert await retention.sweep(time.time() + 31 * 86_400) >= 1
        left = {line["text"] for line in await lines(gateway)}
        assert task not in left
        assert set(told) <= left


async def test_memories_whose_time_is_over_go_by_themselves(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(
        tmp_path, upstream.url, memory__retention={"max_age_days": {"turn": 30}, "max_per_cube": 100}
    )
    async with running_gateway(config) as gateway:
        await tell(gateway, "ada")
        (old, *_) = exported = await lines(gateway)
        old |= {"id": "b" * 32, "created_at": old["created_at"] - 31 * 86_400, "text": "From long ago."}
        crowd = [
            exported[1]
            | {
                "id": f"{number:032x}",
                "owner": "carl",
                "cube_id": "carl",
                "user_id": "carl",
                "created_at": exported[1]["created_at"] - 1000 + number,
                "text": f"Note {number}.",
            }
            for number in range(130)
        ]
        assert (await take_in(gateway, [old, *crowd])).json["imported"] == 131
        retention = gateway.gateway.memory.retention
        assert retention is not None
        assert await retention.sweep(time.time()) == 31
        assert "From long ago." not in {line["text"] for line in await lines(gateway)}
        kept = [line["text"] for line in await lines(gateway, "?user=carl")]
        assert kept == [f"Note {number}." for number in range(30, 130)]
        assert await retention.sweep(time.time()) == 0


async def test_a_period_longer_than_time_itself_deletes_nothing(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, memory__retention={"max_age_days": {"turn": 1e300}})
    async with running_gateway(config) as gateway:
        await tell(gateway, "ada")
        told = await lines(gateway)
        retention = gateway.gateway.memory.retention
        assert retention is not None
        assert await retention.sweep(time.time()) == 0
        assert await lines(gateway) == told


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
async def test_the_command_line_takes_out_and_in_without_a_gateway(
    tmp_path: Path, upstream: FakeUpstream, ending: str
) -> None:
    config = configuration(tmp_path, upstream.url)
    async with running_gateway(config) as gateway:
        await tell(gateway, "ada")
    file = tmp_path / f"memories.{ending}"
    done = await gateway_command(tmp_path, "export", str(file))
    assert done.returncode == 0, done.stderr
    assert "6 memories exported" in done.stderr
    if ending == "parquet":
        assert parquet.read_table(file).num_rows == 6
    done = await gateway_command(tmp_path, "forget", "--user", "ada", "--purge", "--yes")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "6 memories deleted, on the disk too" in done.stderr
    assert "none of them stands in any file" in done.stderr
    assert not await asyncio.to_thread(files_with, config.data_folder, "called Miso")
    done = await gateway_command(tmp_path, "import", str(file))
    assert "6 memories imported, 0 were there already" in done.stderr, done.stderr
    done = await gateway_command(tmp_path, "import", str(file))
    assert "0 memories imported, 6 were there already" in done.stderr, done.stderr
    async with running_gateway(config) as gateway:
        await gateway.chat("What is my cat called?", user="ada", session="new")
        assert "Miso" in upstream.last.body.decode()


async def test_the_command_line_asks_before_it_forgets_and_says_what_is_missing(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    config = configuration(tmp_path, upstream.url)
    async with running_gateway(config) as gateway:
        await tell(gateway, "ada")
        url = ("--url", gateway.url)
        done = await gateway_command(tmp_path, "forget", *url)
        assert done.returncode == 1
        assert "--user" in done.stderr
        done = await gateway_command(tmp_path, "forget", "--id", "", "--yes", *url)
        assert (done.returncode, "--id" in done.stderr) == (2, True)
        done = await gateway_command(tmp_path, "forget", "--user", "ada", *url)
        assert "6 memories match" in done.stderr
        assert len(await lines(gateway)) == 6, "nobody said yes"
        done = await gateway_command(tmp_path, "import", str(tmp_path / "nothing.jsonl"), *url)
        assert "there is no file" in done.stderr
        done = await gateway_command(tmp_path, "forget", "--user", "ada", "--yes", *url)
        assert "6 memories deleted" in done.stderr
        assert await lines(gateway) == []


async def test_what_could_not_be_stored_is_forgotten_too(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(tmp_path, upstream.url)
    with monkeypatch.context() as broken:
        refuse_texts_with("indigestible", broken)
        broken.setattr("gateway.storage.sqlite.journal._FIRST_PAUSE", 0.02)
        async with running_gateway(config) as gateway:
            await gateway.chat("An indigestible truth about me.", user="bob", session="one")
            await gateway.chat("I like tea.", user="bob", session="two")
            await eventually(lambda: gateway.gateway.memory.journal.aside_entries == 1)
            forgotten = await gateway.post("/v1/memory/forget", {"user": "bob", "session": "one", "purge": True})
            assert forgotten.json["purged"]
            assert forgotten.json["deleted"] >= 1
    for file in (tmp_path / "data").rglob("*"):
        assert not file.is_file() or b"indigestible" not in file.read_bytes(), file
    async with running_gateway(config) as gateway:
        await gateway.settled()
        assert "indigestible" not in json.dumps(await lines(gateway))
        assert "I like tea." in json.dumps(await lines(gateway))


async def test_who_speaks_during_a_purge_can_be_forgotten_afterwards(
    gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tell(gateway, "ada")
    purge = MemoryStore.purge
    has_spoken = False

    async def slow(self: MemoryStore, scopes: Collection[str]) -> None:
        nonlocal has_spoken
        if not has_spoken:
            has_spoken = True
            await gateway.chat("My new number is 5551234.", user="ada")
        await purge(self, scopes)

    with monkeypatch.context() as slower:
        slower.setattr(MemoryStore, "purge", slow)
        assert (await gateway.post("/v1/memory/forget", {"user": "ada", "purge": True})).json["deleted"]
    await gateway.settled()
    assert "5551234" in json.dumps(await lines(gateway, "?user=ada"))
    assert (await gateway.post("/v1/memory/forget", {"user": "ada", "purge": True})).json["deleted"] >= 1
    assert await lines(gateway) == []


async def test_a_purge_goes_on_when_its_caller_has_left(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    await tell(gateway, "ada")
    purge = MemoryStore.purge
    begun, done = asyncio.Event(), asyncio.Event()

    async def slow(self: MemoryStore, scopes: Collection[str]) -> None:
        begun.set()
        await pause(0.2)  # the caller leaves meanwhile
        await purge(self, scopes)
        done.set()

    monkeypatch.setattr(MemoryStore, "purge", slow)
    asking = asyncio.create_task(gateway.post("/v1/memory/forget", {"user": "ada", "purge": True}))
    await asyncio.wait_for(begun.wait(), 20)
    asking.cancel()
    await asyncio.wait_for(done.wait(), 10)
    await gateway.gateway.memory.forgetter.stop()


async def test_a_profile_goes_with_its_user(gateway: Running, tmp_path: Path) -> None:
    await tell(gateway, "ada")
    one = {"profile_template_id": "p", "user_id": "ada", "metadata": {"diagnosis": "a very special asthma"}}
    assert (await gateway.post("/product/bind/profile_template", {"bind_list": [one]})).status == 200
    assert (await gateway.post("/v1/memory/forget", {"user": "ada", "purge": True})).status == 200
    for file in tmp_path.rglob("registry.sqlite*"):
        assert b"special asthma" not in file.read_bytes(), file


async def test_lines_that_are_no_memories_are_refused_in_words(gateway: Running) -> None:
    await tell(gateway, "ada")
    one, *_ = await lines(gateway)
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    for change in ({"info": {"x": deep}}, {"owner": "\0knowledge\0kb"}, {"session_id": "a\u202eb"}):
        refused = await take_in(gateway, [{**one, **change}])
        assert (refused.status, refused.error["param"].startswith("lines[1]")) == (400, True), change
    newer, older = {**one, "text": "newer", "version": 9}, {**one, "text": "older", "version": 3}
    assert (await take_in(gateway, [newer, older])).json["imported"] == 1
    assert "newer" in {line["text"] for line in await lines(gateway)}
    other = {**one, "id": "f" * 32}
    in_two = await take_in(gateway, [other, {**other, "owner": "bob", "cube_id": "bob", "user_id": "bob"}])
    assert in_two.status == 400


async def test_an_import_does_not_tell_what_another_tenant_has(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_gateway(configuration(tmp_path, upstream.url, auth={"keys": KEYS})) as gateway:
        await tell(gateway, "ada", **APP)
        one, *_ = await lines(gateway, headers=ADMIN)
        for id_ in (one["id"], "e" * 32):
            raw = json.dumps({**one, "tenant": "other", "id": id_}).encode()
            reply = await gateway.post("/v1/memory/import", None, OTHER, raw=raw)
            assert (reply.status, reply.json) == (200, {"imported": 1, "unchanged": 0})
        assert len(await lines(gateway, headers=OTHER)) == 2
        assert one in await lines(gateway, headers=ADMIN)


async def test_a_broken_parquet_file_is_refused_in_words(gateway: Running, tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"this is none")
    done = await gateway_command(tmp_path, "import", str(broken), "--url", gateway.url)
    assert done.returncode != 0
    assert "is no export" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


async def test_a_foreign_file_is_called_by_its_name(gateway: Running, tmp_path: Path) -> None:
    chats = [{"title": "t", "create_time": 1, "mapping": {}, "current_node": "a"}]
    reply = await gateway.post("/v1/memory/import", None, raw=json.dumps(chats).encode())
    assert reply.status == 400
    assert "ChatGPT" in reply.error["message"]
    for line, words in ((b"[1, 2]", "one JSON list"), (b"7", "line 1 is no JSON object"), (b'{"id": 1}', "`id`")):
        message = (await gateway.post("/v1/memory/import", None, raw=line)).error["message"]
        assert words in message
        assert "_Line" not in message
