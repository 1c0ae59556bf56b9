"""The part of a machine's limits that each of several workers gets."""

from gateway.config.whole import Config

__all__ = ["share_of"]

_LIMITS = ("in_flight", "in_flight_per_key", "bytes_in_flight", "bytes_in_flight_per_key")


def share_of(config: Config, workers: int) -> Config:
    """The configuration of one of `workers`: what limits the load on the machine, on an upstream or by a key is divided
    by their number, and rounded up. Limits of a single request, and those that only the owner of the store applies, are
    not."""
    if workers == 1:
        return config
    limits = config.limits.model_copy(
        update={name: _part(getattr(config.limits, name), workers) for name in _LIMITS},
    )
    recall = config.memory.recall
    recall = recall.model_copy(update={"working_set_mb": _part(recall.working_set_mb, workers)})
    changes = {"limits": limits, "memory": config.memory.model_copy(update={"recall": recall})}
    if config.upstreams == "auto":
        return config.model_copy(update=changes)
    upstreams = tuple(
        upstream
        if upstream.max_in_flight is None
        else upstream.model_copy(update={"max_in_flight": _part(upstream.max_in_flight, workers)})
        for upstream in config.upstreams
    )
    return config.model_copy(update={**changes, "upstreams": upstreams})


def _part(total: int, workers: int) -> int:
    return -(-total // workers)
