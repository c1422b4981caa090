import torch

from dtcwsi.bags.packing import pack
from dtcwsi.compressors import create_compressor
from dtcwsi.types import Bag


def reference(features, counts):
    """Bipartite soft matching with the whole matrix, on one bag, tokens in list order."""
    rows, size = features.double(), torch.ones(len(features), dtype=torch.float64)
    for count in counts:
        unit = torch.nn.functional.normalize(rows, dim=1)
        best = (unit[::2] @ unit[1::2].T).max(dim=1)
        sources = best.values.argsort(descending=True)[: len(rows) - count]
        total, weight = rows * size[:, None], size.clone()
        for source in sources.tolist():
            target = 2 * int(best.indices[source]) + 1
            total[target] += rows[2 * source] * size[2 * source]
            weight[target] += size[2 * source]
        stays = torch.ones(len(rows), dtype=torch.bool)
        stays[2 * sources] = False
        rows, size = (total / weight[:, None])[stays], weight[stays]
    return rows, size


def test_three_stages_of_full_matching():
    for seed in range(20):
        torch.manual_seed(seed)
        features = torch.randn(60 + seed, 5)
        made = create_compressor("tome", dim=5, retention=0.4).eval()
        tokens = made(pack([Bag(features)]))
        counts = [len(stage.unique()) for stage in tokens.tokens_by_stage]
        rows, size = reference(features, counts)
        torch.testing.assert_close(tokens.features.double(), rows, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(tokens.log_size.exp().double(), size, atol=1e-5, rtol=1e-5)


def test_small_budgets_get_the_stages_they_need():
    assert len(create_compressor("tome", dim=2, retention=0.02).shares) == 6
