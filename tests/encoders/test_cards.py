from pathlib import Path

import pytest
import torch

from dtcwsi.cli.listing import ENCODER_COLUMNS, encoder_rows
from dtcwsi.encoders import ENCODERS, cards
from dtcwsi.encoders.cards import POOLINGS
from dtcwsi.encoders.layouts import LAYOUTS

CARDS = cards().values()
ASKED_FOR = {
    "conch",
    "conch-v1.5",
    "virchow",
    "virchow2",
    "uni",
    "uni2-h",
    "prov-gigapath",
    "h-optimus-0",
    "h-optimus-1",
    "h0-mini",
    "phikon",
    "phikon-v2",
    "ctranspath",
    "hibou-b",
    "hibou-l",
    "lunit-dino",
    "kaiko",
    "midnight",
    "gpfm",
    "musk",
    "resnet50-clam",
}


def test_every_card_is_a_name_of_the_registry():
    assert ASKED_FOR <= set(cards()) <= set(ENCODERS.names())


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_card_says_all_that_is_needed(card):
    assert card.title
    assert card.citation
    assert card.licence
    assert card.sources
    assert card.hub or card.download
    assert len(card.mean) == len(card.std) == 3
    assert card.pooling in POOLINGS
    assert card.layout in LAYOUTS
    assert card.resize in ("bilinear", "bicubic")
    assert isinstance(getattr(torch, card.precision), torch.dtype)
    assert all(0.1 < spacing < 4 for spacing in card.spacing_um)


@pytest.mark.parametrize("card", [card for card in CARDS if card.hub], ids=lambda card: card.name)
def test_a_revision_is_a_commit_or_its_absence_is_told(card):
    assert len(card.revision or "") == 40 or "Revision not pinned" in card.notes


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("virchow2", ("class+mean", 2560, 224, (0.25, 0.5, 1.0, 2.0))),
        ("conch", ("attention", 512, 448, (0.5,))),
        ("ctranspath", ("mean", 768, 224, (1.0,))),
        ("prov-gigapath", ("class", 1536, 224, (0.5,))),
        ("resnet50-clam", ("mean", 1024, 224, ())),
    ],
)
def test_facts_that_are_easily_got_wrong(name, facts):
    card = cards()[name]
    assert (card.pooling, card.dim, card.input_px, card.spacing_um) == facts


def test_the_page_of_the_documentation_has_every_card_as_it_is():
    page = (Path(__file__).parents[2] / "docs/reference/encoders.md").read_text()
    for name, *facts in encoder_rows():
        assert f"| `{name}` | {' | '.join(facts)} |" in page
    assert f"| {' | '.join(ENCODER_COLUMNS)} |" in page
    for card in CARDS:
        assert not card.notes or f"* `{card.name}`: {card.notes}" in page
