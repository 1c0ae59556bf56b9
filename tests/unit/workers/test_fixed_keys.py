from gateway.config import Config
from gateway.workers.fixed_keys import keep_fixed


def test_keys_that_need_a_restart_keep_their_values_and_are_named() -> None:
    current = Config.model_validate({"server": {"port": 8081, "workers": 3}, "memory": {"uri": "./data"}})
    changes = {"server": {"port": 8082, "workers": 4, "shutdown_timeout": 5}, "memory": {"uri": "./other"}}
    config, ignored = keep_fixed(current, Config.model_validate(changes))
    assert ignored == ["server.port", "server.workers", "memory.uri"]
    assert (config.server.port, config.server.workers, config.memory.uri) == (8081, 3, "./data")
    assert config.server.shutdown_timeout == 5


def test_a_change_of_other_keys_is_taken_over_whole() -> None:
    current = Config.model_validate({})
    new = Config.model_validate({"log": {"level": "debug"}, "auth": {"keys": [{"key": "a-longer-key"}]}})
    assert keep_fixed(current, new) == (new, [])
