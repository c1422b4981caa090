import pytest
import torch

from dtcwsi.bags.packing import pack
from dtcwsi.compressors import create_compressor
from dtcwsi.errors import OptionError
from dtcwsi.types import Bag


def kept(name, size, training, **options):
    made = create_compressor(name, dim=2, retention=0.25, **options).train(training)
    return made(pack([Bag(torch.randn(size, 2))])).patch_to_token


@pytest.mark.parametrize("name", ["random", "random-prune", "random-merge"])
def test_draws_are_new_in_training_and_fixed_by_seed_at_evaluation(name):
    torch.manual_seed(0)
    assert not torch.equal(kept(name, 100, True), kept(name, 100, True))
    assert torch.equal(kept(name, 100, False), kept(name, 100, False))
    assert not torch.equal(kept(name, 100, False), kept(name, 100, False, seed=1))


@pytest.mark.parametrize("training", [True, False])
def test_every_patch_is_as_likely_to_stay(training):
    torch.manual_seed(0)
    shares = torch.stack([(kept("random", 64, training, seed=seed) >= 0).float() for seed in range(400)])
    assert shares.sum(dim=1).unique().tolist() == [16.0]
    assert (shares.mean(dim=0) - 0.25).abs().max() < 5 * (0.25 * 0.75 / 400) ** 0.5
    first, second = shares[:, 0], shares[:, 1]
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1]) + 1 / 63) < 0.25


def test_random_merging_keeps_every_patch_with_equal_weight():
    made = create_compressor("random-merge", dim=2, retention=0.1).eval()
    features = torch.randn(50, 2)
    tokens = made(pack([Bag(features)]))
    assert tokens.tokens_by_stage.shape[0] == 4
    for token in range(5):
        inside = tokens.patch_to_token == token
        torch.testing.assert_close(tokens.features[token], features[inside].mean(dim=0))


def test_a_schedule_that_merging_cannot_meet_is_told():
    for name in ("random-merge", "merge-only", "tome"):
        with pytest.raises(OptionError, match=r"got schedule=\[0.4\]; a stage that only merges keeps at least 0.5"):
            create_compressor(name, dim=2, schedule=(0.4,))
