"""The probes of the policy as arrays: fitted directions in the space of the default embedder's vectors. Pure."""

from typing import Final, NamedTuple

import numpy as np

from gateway.recall.arrays import Floats
from gateway.text.policy import POLICY

__all__ = ["UNPROBED", "RequestProbes", "has_probes", "probe", "probe_request"]


_METRIC: Final = np.asarray(POLICY.probes.metric, np.float32)
_MEMORY: Final = np.asarray(POLICY.probes.memory, np.float32)
_REQUEST: Final = np.asarray([POLICY.probes.request, POLICY.probes.earlier], np.float32)
UNPROBED: Final = np.nan
"""Of signals that no probe gives: vectors are missing, or another embedder's."""


class RequestProbes(NamedTuple):
    """Log-odds that a request's vector gives: that it needs memory, and that it asks for an earlier answer."""

    need: float
    earlier: float


def has_probes(embedder: str) -> bool:
    """True if the probes are of this embedder."""
    return embedder == POLICY.probes.embedder


def probe(vectors: Floats, query: Floats | None, embedder: str) -> Floats:
    """How each of these vectors, shape (n, dimensions), suits a query, and how much it is like that of a memory that
    answers something; shape (n, 2)."""
    if query is None or not has_probes(embedder):
        return np.full((len(vectors), 2), UNPROBED, np.float32)
    return np.asarray(vectors @ np.stack([query * _METRIC, _MEMORY], axis=1), np.float32)


def probe_request(query: Floats | None, embedder: str) -> RequestProbes | None:
    """See `RequestProbes`; None without a vector of the probes' embedder."""
    if query is None or not has_probes(embedder):
        return None
    need, earlier = (_REQUEST @ query).tolist()
    return RequestProbes(need, earlier)
