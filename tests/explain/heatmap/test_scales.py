"""What colours stand for."""

import numpy as np
import pytest

from dtcwsi.errors import UsageError
from dtcwsi.explain.fates import attention_percentile
from dtcwsi.explain.heatmap.scales import SCALES, scale_over, shares_of

SHARES = shares_of(np.array([0.1, 0.4, 0.1, 0.0, 0.4]))


def test_percentiles_of_one_slide_are_those_of_its_table():
    heat = scale_over("percentile", [SHARES]).heat(SHARES)
    percentile = attention_percentile(SHARES) / 100
    np.testing.assert_allclose(heat, np.where(SHARES > 0, percentile, np.nan))


def test_one_scale_over_slides_compares_multiples_of_an_even_share():
    small, large = shares_of(np.array([0.75, 0.25])), shares_of(np.full(100, 0.01))
    scale = scale_over("percentile", [small, large])
    np.testing.assert_allclose(scale.heat(small), [1, 0])
    np.testing.assert_allclose(scale.heat(large), 0.5)
    assert scale.label == "attention, percentile over 2 slides"
    assert "not how much" in scale.caution


def test_ranks_spread_the_hottest_patches():
    shares = np.arange(1.0, 1001)
    scale = scale_over("rank", [shares])
    np.testing.assert_allclose(scale.heat(shares[[-1, -10, -100, 0]]), [1, 2 / 3, 1 / 3, 0], atol=1e-9)
    assert [words for _, words in scale.ticks] == ["1,000", "100", "10", "1"]
    np.testing.assert_allclose([place for place, _ in scale.ticks], [0, 1 / 3, 2 / 3, 1], atol=1e-9)
    assert scale_over("rank", [np.array([1.0, 2, 2])]).heat(np.array([2.0]))[0] == 1


def test_shares_look_flat_where_attention_is_flat():
    flat, sharp = np.ones(50), np.full(50, 0.001)
    sharp[0] = 49.951
    scale = scale_over("share", [flat, sharp])
    assert [words for _, words in scale.ticks] == ["≤ 0.01", "0.1", "1", "10", "100"]
    np.testing.assert_allclose(scale.heat(flat), 0.5)
    np.testing.assert_allclose(scale.heat(sharp)[:2], [(np.log10(49.951) + 2) / 4, 0])
    assert scale_over("share", [flat]).ticks[-1] == (1, "10")


@pytest.mark.parametrize("name", SCALES)
def test_patches_without_attention_have_no_heat(name):
    assert np.isnan(scale_over(name, [SHARES]).heat(SHARES)).tolist() == [False, False, False, True, False]
    for shares in (np.zeros(0), np.zeros(3), np.ones(1)):
        heat = scale_over(name, [shares]).heat(shares)
        assert ((heat >= 0) & (heat <= 1) | np.isnan(heat)).all()
    assert len(scale_over(name, []).ticks) >= 2


def test_other_scales_are_refused():
    with pytest.raises(UsageError, match="no scale 'log'; expected one of percentile, rank, share"):
        scale_over("log", [SHARES])
