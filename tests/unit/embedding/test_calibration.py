import numpy as np
import pytest

from gateway.embedding.calibration import PAIRS, measure
from gateway.embedding.embedders import LocalEmbedder


async def test_the_embedded_models_scale_is_what_is_measured() -> None:
    embedder = LocalEmbedder()
    await embedder.start()
    questions = await embedder.embed_documents([question for question, _ in PAIRS])
    answers = await embedder.embed_documents([answer for _, answer in PAIRS])
    measured = measure(questions, answers)
    assert measured.unrelated == pytest.approx(embedder.scale.unrelated, abs=0.005)
    assert measured.related == pytest.approx(embedder.scale.related, abs=0.005)
    await embedder.stop()


def test_vectors_that_tell_nothing_apart_have_no_scale() -> None:
    same = np.full((len(PAIRS), 4), 0.5, np.float32)
    with pytest.raises(ValueError, match="any other sentence"):
        measure(same, same)
