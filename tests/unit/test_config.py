import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from gateway.config import Config, ServerConfig, is_loopback, load
from gateway.config.shown import MASK, shown_settings
from gateway.config.storage import StoreLimits
from gateway.errors import ConfigError
from gateway.hooks import PluginConfigModel

SHIPPED = Path(__file__).parents[2] / "config.yaml"


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("servr: {}", "servr: unknown key"),
        ("memory: {recall: {tokn_budget: 3}}", "memory.recall.tokn_budget: unknown key"),
        ("memory: {recall: {gate: 0.3}}", "memory.recall.gate: unknown key; memory.recall.selectivity replaces it"),
        ("server: {port: x}", "server.port"),
        ("auth: {keys: [{key: short}]}", "auth.keys[0].key"),
        ("auth: {keys: [{key: long-enough, rights: [fly]}]}", "auth.keys[0].rights"),
        ("auth: {keys: [{key: long-enough, user: ada, rights: [admin]}]}", "the right `admin` is over a whole tenant"),
        ("upstreams: [{name: a, base_url: 'http://x', proxy: 'socks5://x'}]", "a proxy is http://"),
        ("upstreams: [{name: a, base_url: 'ftp://x'}]", "base_url must be http"),
        ("upstreams: [{name: a, base_url: 'http://u:p@x'}]", "base_url must be http"),
        ("upstreams: [{name: a, kind: offline}, {name: a, kind: offline}]", "same name"),
        ("upstreams: []", "name at least one"),
        ("server: {host: 0.0.0.0}", "auth.keys is empty"),
        ("models: {default: '${NOT_SET_ANYWHERE}'}", "models.default: the environment variable NOT_SET_ANYWHERE"),
        ("memory: {uri: 's3://bucket/memory'}", "memory.database"),
        ("memory: {uri: 's3://key:secret@bucket/x', database: 'postgresql://h/d'}", "s3://bucket/prefix, without"),
        ("memory: {uri: 'gs://bucket/memory'}", "in a folder, or at an address s3://"),
        ("memory: {database: 'mysql://h/d'}", "a database is postgresql://"),
        ("memory: {database: 'postgresql://u:p@h/d'}", "database is for a memory on S3"),
        (
            "{server: {workers: 2}, memory: {uri: 's3://bucket/memory', database: 'postgresql://u:p@h/d'}}",
            "server.workers must be 1 where memory.uri is on S3: to use more cores, start more gateways",
        ),
        ("memory: {uri: 's3://bucket/x', database: 'postgresql://h/d', buckets: 12}", "a power of two"),
        ("memory: {uri: 's3://bucket/x', database: 'postgresql://h/d', buckets: 8192}", "memory.buckets"),
        ("memory: {buckets: 512}", "buckets must be at most 256 in a folder"),
        ("memory: {storage: {endpoint: 'http://host:9000'}}", "the endpoint has no TLS"),
        ("memory: {storage: {endpoint: 'https://u:p@host'}}", "without credentials"),
        ("memory: {storage: {access_key: only-one}}", "belong together"),
        ("[1]", "must be a mapping"),
        ("a: [", "no valid YAML"),
        ("plugins: [{use: '../x'}]", "plugins[0].use"),
        ("otel: {endpoint: 'localhost:4318'}", "otel.endpoint: must be http://"),
        ("otel: {endpoint: 'http://user:word@collector'}", "otel.endpoint: must be http://"),
        ("otel: {sample_ratio: 1.5}", "otel.sample_ratio"),
        ('otel: {headers: {x-key: "a\\nb"}}', "otel.headers.x-key: a header cannot carry"),
        ("server: {port: 2020-13-45}", "YAML"),
        ('memory: {uri: "a\\0b"}', "memory.uri"),
        ("memory: {default_user: ' ada'}", "memory.default_user"),
        ("auth: {keys: [{key: long-enough, tenant: 'a\u200bb'}]}", "auth.keys[0].tenant"),
        ("auth: {keys: [{key: long-enough, user: 'a\u00a0b'}]}", "auth.keys[0].user"),
    ],
)
def test_what_is_wrong_stops_the_start_with_its_path(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("memory", "buckets"),
    [
        ("{}", 16),
        ("{buckets: 12}", 12),
        ("{buckets: 256}", 256),
        ("{uri: 's3://bucket/x', database: 'postgresql://h/d'}", 64),
        ("{uri: 's3://bucket/x', database: 'postgresql://h/d', buckets: 4096}", 4_096),
    ],
)
def test_the_number_of_buckets_of_a_new_memory_fits_its_place(tmp_path: Path, memory: str, buckets: int) -> None:
    assert load(written(tmp_path, f"memory: {memory}")).memory.new_buckets == buckets


def test_a_secret_is_in_no_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, "auth: {keys: [{key: super-secret-1}, {key: super-secret-1}]}"))
    assert "super-secret" not in str(caught.value)


def test_variables_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_MODEL", "from: env")
    config = load(written(tmp_path, "models: {default: '${MY_MODEL}', aliases: {a: '${NOPE:-fallback}'}}"))
    assert (config.models.default, config.models.aliases) == ("from: env", {"a": "fallback"})


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    assert load(written(tmp_path, "memory: {uri: ./mine}")).data_folder == tmp_path / "mine"


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert load(written(tmp_path, "")).model_dump() == Config().model_dump()


def test_the_shipped_file_shows_the_defaults() -> None:
    shipped, default = load(SHIPPED).model_dump(), Config().model_dump()
    assert shipped.pop("plugins")[0]["use"] == "redact"
    default.pop("plugins")
    assert shipped["memory"].pop("default_user") == "me"
    assert default["memory"].pop("default_user") is None
    assert shipped == default


def test_options_of_the_command_line_win(tmp_path: Path) -> None:
    config = load(written(tmp_path, "server: {port: 1}"), host="localhost", port=2)
    assert (config.server.host, config.server.port) == ("localhost", 2)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("10.0.0.1", False),
        ("evil.example", False),
        ("", False),
    ],
)
def test_loopback_is_told_from_the_rest(host: str, local: bool) -> None:
    assert is_loopback(host) == local


@pytest.mark.parametrize(
    "value", ["true", "false", "'1'", '"30"', ".inf", "-.inf", ".nan", "[1]", "{}", "yes", "1e999"]
)
@pytest.mark.parametrize(
    "key",
    [
        "server: {port: %s}", "server: {shutdown_timeout: %s}", "server: {keep_alive: %s}", "limits: {body_mb: %s}",
        "limits: {silence: %s}", "memory: {recall: {selectivity: %s}}",
        "memory: {retention: {max_age_days: {turn: %s}}}",
        "memory: {retention: {max_per_cube: %s}}", "usage: {prices: {m: {prompt: %s, completion: 1}}}",
        "plugins: [{use: audit, timeout_ms: %s}]", "upstreams: [{name: a, base_url: 'http://x/v1', weight: %s}]",
        "upstreams: [{name: a, base_url: 'http://x/v1', timeouts: {idle: %s}}]",
    ],
)  # fmt: skip
def test_a_number_is_a_finite_number(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, key % value))
    assert "number" in str(caught.value) or "integer" in str(caught.value) or "dictionary" in str(caught.value)


def test_a_number_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1234")
    config = load(written(tmp_path, "server: {port: '${PORT}', shutdown_timeout: '${SECONDS_LEFT:-2.5}'}"))
    assert (config.server.port, config.server.shutdown_timeout) == (1234, 2.5)
    for text in ("inf", "nan", "many", ""):
        monkeypatch.setenv("PORT", text)
        with pytest.raises(ConfigError, match=r"server\.port"):
            load(written(tmp_path, "server: {port: '${PORT}'}"))


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "memory: &m {recall: *m}",
        "plugins: &p [{use: audit, config: {again: *p}}]",
        "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
        + "\n".join(f"{c}: &{c} [{','.join(f'*{chr(ord(c) - 1)}' for _ in range(10))}]" for c in "cdefgh"),
        "[" * 5000,
    ],
)
def test_aliases_neither_recurse_nor_multiply(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"nested|values|alias|YAML|mapping"):
        load(written(tmp_path, text))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_file_in_another_encoding_is_refused_in_words(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes("models: {default: 'modèle'}".encode(encoding))
    with pytest.raises(ConfigError, match="UTF-8"):
        load(path)


def test_a_number_may_have_an_exponent(tmp_path: Path) -> None:
    assert load(written(tmp_path, "server: {shutdown_timeout: 1e1}")).server.shutdown_timeout == 10


@pytest.mark.parametrize("field", ["by_name: {x: %s}", "several: [1.5, %s]", "pair: [%s, 2]"])
@pytest.mark.parametrize("value", ["true", "'1'", ".inf"])
def test_numbers_in_collections_of_a_plugin_are_numbers_too(field: str, value: str) -> None:
    class Settings(PluginConfigModel):
        by_name: dict[str, int] | None = None
        several: list[float] | None = None
        pair: tuple[int, ...] = ()
        names: dict[str, str] | None = None

    Settings.model_validate(yaml.safe_load(f"{{{field}, names: {{x: '1'}}}}" % 3))
    with pytest.raises(ValidationError, match="number"):
        Settings.model_validate(yaml.safe_load(f"{{{field}}}" % value))


def test_secrets_of_a_cluster_are_shown_nowhere(tmp_path: Path) -> None:
    text = (
        "memory: {uri: 's3://bucket/memory', database: 'postgresql://u:hidden-1@h/d', "
        "storage: {access_key: hidden-2, secret_key: hidden-3}}"
    )
    config = load(written(tmp_path, text))
    shown = [f"{setting.path}={setting.value}" for setting in shown_settings(config, "default")]
    assert f"memory.database={MASK}" in shown
    assert f"memory.storage.secret_key={MASK}" in shown
    assert "hidden" not in f"{shown} {config} {config.memory!r}"
    for wrong in (text.replace("postgresql://u", "postgres-u"), text.replace("secret_key: hidden-3", "secret_key: ''")):
        with pytest.raises(ConfigError) as error:
            load(written(tmp_path, wrong))
        assert "hidden" not in str(error.value)


def test_the_folder_of_a_cluster_holds_caches(tmp_path: Path) -> None:
    file = written(tmp_path, "memory: {uri: 's3://bucket/memory', database: 'postgresql://h/d'}")
    assert load(file).data_folder == tmp_path / "data"
    config = load(file, data=tmp_path / "caches")
    assert config.memory.uri == "s3://bucket/memory"
    assert config.data_folder == tmp_path / "caches"


def test_a_memory_on_object_storage_is_written_in_larger_steps(tmp_path: Path) -> None:
    folder = load(written(tmp_path, "memory: {remember: {batch_window_ms: 500}}")).memory
    assert folder.limits == StoreLimits(flush_rows=256, flush_seconds=0.5, compact_fragments=64)
    cluster = folder.model_copy(update={"uri": "s3://bucket/memory"})
    assert cluster.limits == StoreLimits(flush_rows=256, flush_seconds=15.0, compact_fragments=16)
    text = "memory: {store: {flush_rows: 9, flush_seconds: 3, compact_fragments: 5}}"
    chosen = load(written(tmp_path, text)).memory
    assert chosen.limits == StoreLimits(flush_rows=9, flush_seconds=3.0, compact_fragments=5)


def test_windows_has_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert [ServerConfig(workers=count).workers for count in (0, 1)] == [0, 1]
    with pytest.raises(ValidationError, match="Windows cannot share a port between processes: set it to 1"):
        ServerConfig(workers=2)
