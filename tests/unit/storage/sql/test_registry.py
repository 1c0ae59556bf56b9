import pytest

from gateway.identity import cube_scopes, knowledge_scope, scope_of
from gateway.storage.errors import StorageError
from gateway.storage.sql.registry import SqlRegistry
from gateway.storage.values import KnowledgeFile, Task
from tests.fakes.tables import Tables


async def open_registry(tables: Tables, *, is_owner: bool = True) -> SqlRegistry:
    registry = tables.registry(is_owner=is_owner)
    await registry.open()
    return registry


async def test_scopes_are_known_by_tenant_cube_and_owner_after_a_restart(tables: Tables) -> None:
    registry = await open_registry(tables)
    mine, shared = scope_of("acme", "ada"), knowledge_scope("acme", "kb-1")
    assert not registry.knows(mine)
    await registry.add_scopes([mine, shared, scope_of("rival", "ada")])
    assert registry.knows(mine)
    await registry.close()
    again = await open_registry(tables)
    assert await again.scope(mine.value) == mine
    assert await again.scope("0" * 64) is None
    assert {scope.value for scope in await again.scopes("acme")} == {mine.value, shared.value}
    assert await again.scopes_of_owner("acme", "ada") == [mine]
    assert await again.scopes_of_cube("acme", "kb-1") == [shared]
    await again.drop_scope(shared)
    assert await again.scopes_of_cube("acme", "kb-1") == []
    await again.close()


async def test_users_come_in_order_with_all_their_scopes(tables: Tables) -> None:
    registry = await open_registry(tables)
    work, home = cube_scopes("acme", "bob", ["work", "bob"])
    scopes = [scope_of("acme", name) for name in ("carl", "ada", "100%", "1000", "a!b")]
    await registry.add_scopes([*scopes, work, home, knowledge_scope("acme", "kb-1"), scope_of("rival", "eve")])

    async def users(containing: str = "", after: str = "", limit: int = 9) -> list[str]:
        found = await registry.owned_scopes("acme", containing, after, limit)
        assert {scope.tenant for scope in found} <= {"acme"}
        return [scope.owner for scope in found]

    assert await users() == ["100%", "1000", "a!b", "ada", "bob", "bob", "carl"]
    assert await users(limit=2, after="a!b") == ["ada", "bob", "bob"], "two users, three scopes"
    assert await registry.owned_scopes("acme", "BOB", "", 9) == [home, work]
    for part, expected in {"0%": ["100%"], "_": [], "!": ["a!b"], "' OR 1": [], "a": ["a!b", "ada", "carl"]}.items():
        assert await users(part) == expected
    await registry.close()


async def test_items_are_kept_by_tenant_and_kind(tables: Tables) -> None:
    registry = await open_registry(tables)
    await registry.put_item("acme", "profile", "p", {"a": 1})
    await registry.put_item("acme", "profile", "p", {"a": 2})
    item = await registry.item("acme", "profile", "p")
    assert item is not None
    assert item.value == {"a": 2}
    assert await registry.item("rival", "profile", "p") is None
    assert await registry.items("acme", "settings") == []
    await registry.drop_item("acme", "profile", "p")
    assert await registry.items("acme", "profile") == []
    await registry.close()


async def test_files_keep_their_content_until_they_are_read(tables: Tables) -> None:
    registry = await open_registry(tables)
    files = [
        KnowledgeFile(id=f"f{n}", cube_id="kb", name="a.txt", size=3, kind="document", status="running", at=1.0)
        for n in range(3)
    ]
    await registry.put_files("acme", [(file, b"abc") for file in files])
    assert await registry.unfinished_files() == [("acme", "f0"), ("acme", "f1"), ("acme", "f2")]
    assert await registry.file_content("acme", "f1") == b"abc"
    await registry.end_file("acme", "f1", "failed", "broken")
    assert await registry.file_content("acme", "f1") is None
    assert [(one.status, one.error) for one in await registry.files("acme", ids=["f1"])] == [("failed", "broken")]
    assert len(await registry.files("acme", cube_id="kb")) == 3
    assert await registry.files("rival", cube_id="kb") == []
    await registry.drop_files("acme", ["f0", "f1", "f2"])
    assert await registry.unfinished_files() == []
    await registry.close()


async def test_tasks_are_followed_by_user(tables: Tables) -> None:
    registry = await open_registry(tables)
    await registry.put_task("acme", Task(id="t", user="ada", cube_id="ada", status="in_progress", seq=4))
    await registry.put_task("acme", Task(id="t", user="ada", cube_id="ada", status="completed", seq=4))
    task = await registry.task("acme", "t")
    assert task is not None
    assert (task.status, task.seq) == ("completed", 4)
    assert await registry.task("rival", "t") is None
    assert len(await registry.tasks("acme")) == len(await registry.tasks("acme", "ada")) == 1
    assert await registry.tasks("acme", "eve") == []
    await registry.close()


async def test_a_closed_registry_fails_with_its_own_error(tables: Tables) -> None:
    registry = tables.registry()
    with pytest.raises(StorageError):
        await registry.scopes("acme")
    await registry.close()


async def test_only_the_owner_ends_the_tasks_of_an_earlier_process(tables: Tables) -> None:
    first = await open_registry(tables)
    await first.put_task("acme", Task(id="t", user="ada", cube_id="ada", status="in_progress"))
    other = await open_registry(tables, is_owner=False)
    assert [task.status for task in await other.tasks("acme")] == ["in_progress"]
    await first.close()
    first = await open_registry(tables)
    assert [task.status for task in await other.tasks("acme")] == ["failed"]
    await first.close()
    await other.close()


async def test_a_scope_that_another_process_dropped_is_registered_again_after_the_cache_is_forgotten(
    tables: Tables,
) -> None:
    first, other = await open_registry(tables), await open_registry(tables, is_owner=False)
    scope = scope_of("acme", "ada")
    await first.add_scopes([scope])
    await other.forget_owner("acme", "ada")
    first.forget_cached()
    assert not first.knows(scope)
    assert await first.scope(scope.value) is None
    await first.add_scopes([scope])
    assert await other.scopes("acme") == [scope]
    await first.close()
    await other.close()


async def test_what_names_a_user_is_forgotten_and_nothing_else(tables: Tables) -> None:
    registry = await open_registry(tables)
    mine, other = scope_of("acme", "ada"), scope_of("acme", "bob")
    await registry.add_scopes([mine, other])
    await registry.put_item("acme", "profile", "p1", {"user_id": "ada"})
    await registry.put_item("acme", "profile", "p2", {"user_id": "bob"})
    await registry.put_item("acme", "settings", "s", {"a": 1})
    await registry.put_task("acme", Task(id="t", user="ada", cube_id="ada", status="completed"))
    await registry.forget_owner("acme", "ada")
    assert await registry.scopes("acme") == [other]
    assert [item.id for item in await registry.items("acme", "profile")] == ["p2"]
    assert await registry.tasks("acme") == []
    await registry.forget_all("acme")
    assert await registry.scopes() == []
    assert await registry.items("acme", "profile") == []
    assert len(await registry.items("acme", "settings")) == 1
    await registry.forget_all(None)
    await registry.close()
