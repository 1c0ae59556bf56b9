import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from gateway.store.lean_import import import_lancedb
lancedb = import_lancedb()
assert not any(type(finder).__name__ == "_EmptyModules" for finder in sys.meta_path)
import asyncio, pyarrow as pa
async def use():
    database = await lancedb.connect_async(sys.argv[1])
    table = await database.create_table("t", schema=pa.schema([pa.field("id", pa.utf8())]))
    await table.add([{"id": "a"}])
    await table.optimize()
    assert (await database.list_tables()).tables == ["t"]
    return (await table.query().where("id = 'a'").to_arrow()).num_rows
print("rows", asyncio.run(use()))
"""


def test_the_lean_import_is_whole(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.stdout == "rows 1\n", done.stderr
