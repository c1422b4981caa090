import numpy as np
import pytest

from dtcwsi.encoders import encode_once


def batches_of(names, size):
    """Patches named by letters; a letter's pixels and digest are its own."""
    for start in range(0, len(names), size):
        some = names[start : start + size]
        yield np.array([[ord(name)] for name in some], np.uint8), [name.encode() for name in some]


class Encoder:
    """Gives each patch its pixel and notes what it was asked for; ``ahead`` batches are read before one is given."""

    def __init__(self, ahead=0):
        self.seen, self._ahead = [], ahead

    def encode(self, batches):
        waiting = []
        for pixels in batches:
            self.seen += [chr(pixel) for pixel in pixels[:, 0]]
            waiting.append(pixels.astype(np.float32))
            if len(waiting) > self._ahead:
                yield waiting.pop(0)
        yield from waiting


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 20])
@pytest.mark.parametrize(
    "names", ["", "a", "aaaaaaa", "abcdef", "abacabadaaaaaabe", "aabbccabcabcd", "abcaaaaaaaaabbbbbb"]
)
def test_every_patch_has_its_row_and_none_is_encoded_twice(names, size, ahead):
    encoder, written = Encoder(ahead), []
    for rows in encode_once(batches_of(names, size), encoder.encode, lambda number: written[number]):
        written.extend(rows)
    assert [chr(int(row[0])) for row in written] == list(names)
    assert encoder.seen == list(dict.fromkeys(names))
