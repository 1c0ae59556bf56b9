from pathlib import Path

import yaml

from gateway.config import Config, load
from gateway.config.shares import share_of


def config(folder: Path, **changes: object) -> Config:
    file = folder / "config.yaml"
    upstreams = [
        {"name": "narrow", "base_url": "http://localhost:1/v1", "max_in_flight": 5},
        {"name": "wide", "base_url": "http://localhost:2/v1"},
    ]
    file.write_text(yaml.safe_dump({"upstreams": upstreams, **changes}), encoding="utf-8")
    return load(file)


def test_load_limits_are_divided_and_rounded_up(tmp_path: Path) -> None:
    limits = {"in_flight": 10, "in_flight_per_key": 1, "bytes_in_flight": 2**20 + 1, "bytes_in_flight_per_key": 2**20}
    whole = config(tmp_path, limits=limits, memory={"recall": {"working_set_mb": 64}})
    part = share_of(whole, 3)
    assert (part.limits.in_flight, part.limits.in_flight_per_key) == (4, 1)
    assert (part.limits.bytes_in_flight, part.limits.bytes_in_flight_per_key) == (349526, 349526)
    assert part.memory.recall.working_set_mb == 22
    assert [upstream.max_in_flight for upstream in part.upstreams if not isinstance(upstream, str)] == [2, None]


def test_limits_of_a_request_and_of_the_owner_stay(tmp_path: Path) -> None:
    whole = config(tmp_path)
    part = share_of(whole, 8)
    assert part.limits.body_mb == whole.limits.body_mb
    assert part.limits.messages == whole.limits.messages
    assert part.console == whole.console
    assert part.memory.recall.explain_turns == whole.memory.recall.explain_turns
    assert part.memory.remember == whole.memory.remember
    assert part.folder == whole.folder


def test_a_single_worker_gets_all(tmp_path: Path) -> None:
    whole = config(tmp_path)
    assert share_of(whole, 1) is whole


def test_upstreams_that_are_found_have_no_limit_to_divide(tmp_path: Path) -> None:
    assert share_of(config(tmp_path, upstreams="auto"), 4).upstreams == "auto"
