import pytest
import torch

import dtcwsi
from dtcwsi.benchmark.cost import PAPER_FLOPS, Cost, paper_column, slide_cost
from dtcwsi.benchmark.measuring import products_of
from dtcwsi.errors import OptionError

MODELS = [
    ("abmil", {}),
    ("abmil", {"gated": True, "projection": None}),
    ("mean", {}),
    ("max", {}),
    ("clam-sb", {}),
    ("clam-mb", {"gated": False, "hidden": 384}),
    ("dsmil", {"values": True}),
    ("dtc-clam-mb", {}),
    ("dtc-dsmil", {}),
    ("dtc-abmil", {}),
    ("dtc-abmil", {"retention": 0.1, "merge_share": 1.0, "scorer_width": 16}),
    ("dtc-abmil", {"matching": "full", "merge_share": 0.5}),
    ("dtc-abmil", {"matching": "window"}),
    ("dtc-mean", {"preset": "paper", "order": "given"}),
    ("tome-abmil", {"retention": 0.1}),
    ("random-abmil", {}),
    ("merge-only-abmil", {}),
    ("prune-only-abmil", {}),
]


@pytest.mark.parametrize(("name", "options"), MODELS)
def test_products_are_those_that_torch_counts(name, options):
    model = dtcwsi.create_model(name, in_dim=96, n_classes=3, **options).eval()
    with torch.no_grad():
        counted = products_of(lambda: model(torch.randn(1501, 96)))
    products = sum((cost for cost in slide_cost(model, 1501).values()), Cost()).products
    assert products == pytest.approx(counted, rel=0.02)


def test_a_smaller_budget_costs_less_and_features_are_read_once_by_the_scorer():
    costs = [
        slide_cost(dtcwsi.create_model("dtc-abmil", in_dim=512, n_classes=2, retention=share), 13_900)
        for share in (0.8, 0.4, 0.1)
    ]
    totals = [sum(parts.values(), Cost()).products for parts in costs]
    assert totals == sorted(totals, reverse=True)
    pruning = dtcwsi.create_model("prune-only-abmil", in_dim=512, n_classes=2)
    assert slide_cost(pruning, 1000)["score"].bytes == 1000 * 512 * 4


def test_a_budget_by_threshold_has_no_fixed_cost():
    model = dtcwsi.create_model("dtc-abmil", in_dim=8, n_classes=2, budget="threshold")
    with pytest.raises(OptionError, match="count the cost of budget='ratio'"):
        slide_cost(model, 100)


def test_what_is_not_counted_is_told():
    with pytest.raises(OptionError, match="the cost of transmil is not counted; abmil, clam"):
        slide_cost(dtcwsi.create_model("transmil", in_dim=8, n_classes=2), 100)


def test_no_cost_in_proportion_to_tokens_gives_the_papers_column():
    _, linear = paper_column((1,))
    assert max(map(abs, linear.values())) > 0.2
    weights, both = paper_column((1, 2))
    assert max(map(abs, both.values())) < 0.13
    assert sum(weights.values()) == pytest.approx(PAPER_FLOPS[1.0], rel=0.13)
