import asyncio
import subprocess
import sys
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


def test_lancedb_is_imported_without_the_package_that_it_does_not_need(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from gateway.storage.lance.connection import connecting
connecting(Path({str(tmp_path)!r}))
assert "lancedb" in sys.modules
assert "lance_namespace_urllib3_client.models" in sys.modules
assert "lance_namespace_urllib3_client.api" not in sys.modules, "it takes as long as all others"
import lance_namespace_urllib3_client as package
assert not hasattr(package, "__no_such_name__")
assert package.ApiClient.__module__ == "lance_namespace_urllib3_client.api_client", "who needs it has it"
from lance_namespace_urllib3_client.api import TableApi
assert package.TableApi is TableApi
try:
    package.no_such_name
except AttributeError as error:
    assert "no_such_name" in str(error)
connecting(Path({str(tmp_path)!r}))
print("done")
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.stdout == "done\n", result.stderr
