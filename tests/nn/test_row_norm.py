import torch

from dtcwsi.nn.row_norm import RowNorm


def pair():
    torch.manual_seed(0)
    ours, theirs = RowNorm(4), torch.nn.BatchNorm1d(4)
    with torch.no_grad():
        for tensor in (*ours.parameters(), ours.running_mean):
            tensor.normal_()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def test_passes_that_are_remembered_are_those_of_torch():
    ours, theirs = pair()
    for _ in range(3):
        rows = torch.randn(9, 4)
        made, seen = ours(rows, ours.running)
        ours.remember(seen)
        torch.testing.assert_close(made, theirs(rows))
    torch.testing.assert_close(dict(ours.state_dict()), dict(theirs.state_dict()))
    rows = torch.randn(9, 4)
    torch.testing.assert_close(ours.eval()(rows, ours.running)[0], theirs.eval()(rows))


def test_a_pass_has_no_effects():
    ours, _ = pair()
    before = {key: tensor.clone() for key, tensor in ours.state_dict().items()}
    ours(torch.randn(9, 4), ours.running)
    assert all(torch.equal(tensor, before[key]) for key, tensor in ours.state_dict().items())


def test_a_single_row_is_normalised_by_what_was_seen_before_and_leaves_it():
    ours, theirs = pair()
    before, row = ours.running, torch.randn(1, 4)
    made, seen = ours(row, before)
    ours.remember(seen)
    torch.testing.assert_close(made, theirs.eval()(row))
    torch.testing.assert_close(ours.running, before)
    assert ours(row[:0], before)[0].shape == (0, 4)
