"""The fitted numbers of the recall policy, from one versioned data file (`policy.json`, written by `make fit`)."""

from dataclasses import dataclass
from importlib import resources
from typing import Final

import orjson

__all__ = ["POLICY", "Linear", "Network", "Policy"]


@dataclass(frozen=True, slots=True)
class Linear:
    """Logistic regression: log-odds = `bias` + Σ `weights[name]` · value."""

    bias: float
    weights: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One hidden layer of rectified units over standardised inputs, beside a linear path; gives log-odds.

    Shapes: `inputs`, `means`, `scales`, `linear` (n,), `hidden` (n, units), `hidden_bias`, `output` (units,).
    """

    inputs: list[str]
    means: list[float]
    scales: list[float]
    linear: list[float]
    hidden: list[list[float]]
    hidden_bias: list[float]
    output: list[float]
    bias: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """Directions in the space of an embedder's vectors, each of its length.

    `metric` weights the products of a query's and a memory's numbers, which a cosine weights equally; `memory` predicts
    from its vector alone whether a memory answers something; `request` whether a request needs memory, and `earlier`
    whether it asks for an earlier answer. `embedder`: the name of the vectors' embedder.
    """

    embedder: str
    metric: list[float]
    memory: list[float]
    request: list[float]
    earlier: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The fitted models. `worth`: of a text as a memory; `order`: is a candidate part of the answer; `need`: does a
    request need memory, by its form, its match and `probes`; `earlier`: does it ask for an earlier answer, by its form
    and `probes`; the two `without_probes`: the same for other embedders."""

    version: int
    worth: Linear
    order: Network
    need: Linear
    need_without_probes: Linear
    earlier: Linear
    earlier_without_probes: Linear
    probes: Probes


def _read() -> Policy:
    data = orjson.loads(resources.files("gateway.text").joinpath("policy.json").read_bytes())
    return Policy(
        version=data["version"],
        worth=Linear(**data["worth"]),
        order=Network(**data["order"]),
        need=Linear(**data["need"]),
        need_without_probes=Linear(**data["need_without_probes"]),
        earlier=Linear(**data["earlier"]),
        earlier_without_probes=Linear(**data["earlier_without_probes"]),
        probes=Probes(**data["probes"]),
    )


POLICY: Final = _read()
