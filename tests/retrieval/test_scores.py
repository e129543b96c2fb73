from __future__ import annotations

import numpy as np
import pytest

from retrieval.scores import Vectors, score_block, score_picked


@pytest.mark.parametrize("width", [*range(1, 17), 31, 384])
@pytest.mark.parametrize("half", [False, True])
def test_a_vector_scores_the_same_at_every_width_whichever_way_it_is_read(width: int, half: bool) -> None:
    rng = np.random.default_rng(width)
    drawn = rng.normal(size=(5000, width))
    vectors: Vectors = drawn.astype(np.float16) if half else drawn.astype(np.float32)
    query = rng.normal(size=width).astype(np.float32)
    positions = rng.permutation(5000)

    block, picked = score_block(query, vectors), score_picked(query, vectors, positions)

    assert picked.tolist() == block[positions].tolist()
    np.testing.assert_allclose(block, vectors.astype(np.float64) @ query, atol=1e-3)
