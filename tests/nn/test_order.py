import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dtcwsi.nn.order import grid_cells, hilbert_rank, infer_step, spatial_order, van_der_corput


@pytest.mark.parametrize("side", [2, 4, 8, 32])
def test_the_hilbert_curve_visits_every_cell_once_by_single_steps(side):
    cells = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
    rank = hilbert_rank(cells)
    assert sorted(rank) == list(range(side * side))
    assert (np.abs(np.diff(cells[np.argsort(rank)], axis=0)).sum(axis=1) == 1).all()


def test_reference_ranks_of_the_first_square():
    np.testing.assert_array_equal(hilbert_rank(np.array([(0, 0), (0, 1), (1, 1), (1, 0)])), [0, 1, 2, 3])


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=60, unique=True), st.randoms())
def test_the_order_is_the_same_whatever_order_the_patches_came_in(cells, random):
    coords = np.array(cells, np.int64) * 256
    shuffled = list(range(len(coords)))
    random.shuffle(shuffled)
    again = coords[shuffled]
    np.testing.assert_array_equal(coords[spatial_order(coords, 256)], again[spatial_order(again, 256)])


def test_patches_of_one_cell_go_by_y_then_x():
    coords = np.array([(30, 20), (20, 30), (10, 20), (0, 0)])
    np.testing.assert_array_equal(coords[spatial_order(coords, 256)], [(0, 0), (10, 20), (30, 20), (20, 30)])


@pytest.mark.parametrize(
    ("coords", "step"),
    [
        ([(0, 0), (512, 0), (512, 256)], 256.0),
        ([(10.5, 0), (11.75, 9)], 1.25),
        ([(7, 7)], 1.0),
        (np.zeros((0, 2)), 1.0),
    ],
)
def test_the_step_is_inferred_from_the_coordinates(coords, step):
    assert infer_step(np.array(coords)) == step


def test_cells_of_coordinates_that_are_not_quite_on_the_grid():
    np.testing.assert_array_equal(grid_cells(np.array([(5.0, 5.0), (5 + 3 * 0.1, 5.0)]), 0.1), [(0, 0), (3, 0)])
    assert grid_cells(np.zeros((0, 2)), 1.0).shape == (0, 2)


def test_van_der_corput_by_its_definition_and_its_spread():
    values = van_der_corput(torch.arange(64)).numpy() / 2**31
    np.testing.assert_array_equal(values[:8], [0, 0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.875])
    for count in (2, 4, 16, 64):
        np.testing.assert_array_equal(np.sort(values[:count]), np.arange(count) / count)
    assert len(van_der_corput(torch.arange(0))) == 0
    assert int(van_der_corput(torch.tensor([2**31 - 1]))) == 2**31 - 1
