import re

import pytest

import dtcwsi
from dtcwsi.errors import UsageError


def check_that_each_missing_key_is_named(name, state, **settings):
    """Take every key away by itself: what is said names it alone as missing, written as in the state dict."""
    for key in state:
        others = {other: tensor for other, tensor in state.items() if other != key}
        with pytest.raises(UsageError, match=rf"(lacks|missing) {re.escape(key)};"):
            dtcwsi.load_official(name, others, **settings)
