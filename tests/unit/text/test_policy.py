from gateway.recall.signals import SIGNALS
from gateway.text.policy import POLICY


def test_the_shipped_policy_is_of_the_signals_that_recall_makes() -> None:
    assert POLICY.order.inputs == list(SIGNALS)
    count = len(SIGNALS)
    shapes = [len(POLICY.order.means), len(POLICY.order.scales), len(POLICY.order.linear), len(POLICY.order.hidden)]
    assert shapes == [count] * 4
    assert {len(row) for row in POLICY.order.hidden} == {len(POLICY.order.output)} == {len(POLICY.order.hidden_bias)}


def test_the_shipped_probes_are_of_the_default_embedder() -> None:
    from gateway.embedding.embedders import LocalEmbedder

    probes = POLICY.probes
    assert probes.embedder == LocalEmbedder.name
    assert {len(probes.metric), len(probes.memory), len(probes.request)} == {LocalEmbedder.dimensions}
