import numpy as np

from gateway.embedding.embedders import LocalEmbedder
from gateway.recall.probes import probe, probe_request


def test_vectors_of_another_embedder_have_no_probes() -> None:
    vectors, query = np.ones((2, 4), np.float32), np.ones(4, np.float32)
    assert np.isnan(probe(vectors, query, "another")).all()
    assert probe_request(query, "another") is None
    assert probe_request(None, LocalEmbedder.name) is None


def test_each_vector_gets_what_the_probes_give() -> None:
    size = LocalEmbedder.dimensions
    vectors, query = np.eye(3, size, dtype=np.float32), np.full(size, 0.5, np.float32)
    probed = probe(vectors, query, LocalEmbedder.name)
    assert probed.shape == (3, 2)
    assert np.allclose(probe(vectors, 2 * query, LocalEmbedder.name)[:, 0], 2 * probed[:, 0])
    assert probe_request(query, LocalEmbedder.name) is not None
