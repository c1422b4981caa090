from types import SimpleNamespace

import pytest

from dtcwsi.encoders import check_spacing
from dtcwsi.errors import EncoderError


@pytest.mark.parametrize(("trained", "asked"), [((0.5,), 0.5), ((0.5,), 0.4), ((0.25, 1.0), 1.25), ((), 7.0)])
def test_patches_near_an_encoders_um_are_taken(trained, asked):
    check_spacing(SimpleNamespace(name="a", spacing_um=trained), asked)


def test_an_encoder_that_says_nothing_takes_any():
    check_spacing(SimpleNamespace(name="a"), 4.0)


@pytest.mark.parametrize(
    ("trained", "asked", "use"), [((1.0,), 0.5, "1"), ((0.5, 1.0), 2.0, "1"), ((0.25, 0.5), 0.1, "0.25")]
)
def test_patches_of_another_um_are_refused_with_the_one_to_ask_for(trained, asked, use):
    with pytest.raises(EncoderError, match=rf"read at {asked:g}; use --patch-spacing {use}, or --any-spacing"):
        check_spacing(SimpleNamespace(name="a", spacing_um=trained), asked)
