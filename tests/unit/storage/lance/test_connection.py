import asyncio
from pathlib import Path

import pyarrow as pa

from gateway.storage.lance.connection import connecting


async def test_a_database_is_made_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "lance"
    database = await (await asyncio.to_thread(connecting, folder))()
    table = await database.create_table("t", schema=pa.schema([pa.field("id", pa.utf8())]))
    await table.add([{"id": "a"}])
    assert folder.is_dir()
    assert (await table.query().where("id = 'a'").to_arrow()).num_rows == 1
