"""Agreement of maps against counts by hand."""

import numpy as np
import pytest

from dtcwsi.explain.faithfulness.agreement import spearman, top_overlap


def test_rank_correlation_by_hand():
    values = np.array([0.1, 0.2, 0.3, 0.4])
    assert spearman(values, np.exp(9 * values)) == pytest.approx(1)
    assert spearman(values, -values) == pytest.approx(-1)
    assert spearman(values, np.array([1.0, 3.0, 2.0, 4.0])) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert spearman(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0, 1.0])) == pytest.approx(0)


def test_a_map_that_is_the_same_everywhere_ranks_nothing():
    assert spearman(np.full(4, 0.25), np.arange(4.0)) is None


def test_overlap_of_the_top_by_hand():
    one = np.arange(20)
    assert top_overlap(one, one) == 1
    assert top_overlap(one, one[::-1]) == 0
    assert top_overlap(one, np.array([1, 9, *range(2, 9), 0, *range(10, 20)])) == 0.5
    assert top_overlap(one, np.roll(one, 1), share=0.2) == 0.75
