from pathlib import Path

import pytest

from dtcwsi.errors import UsageError
from dtcwsi.extraction import Shard

SLIDES = {f"TCGA-{number:05d}": Path(f"/slides/TCGA-{number:05d}.svs") for number in range(3000)}


def test_shards_divide_the_slides_about_equally_and_leave_none_out():
    shares = [Shard(number, 7).share(SLIDES) for number in range(1, 8)]
    assert sorted(slide_id for share in shares for slide_id in share) == sorted(SLIDES)
    assert all(300 < len(share) < 560 for share in shares)  # 429 on average, standard deviation 19
    assert list(shares[2]) == sorted(shares[2])


def test_a_slide_stays_in_its_share_when_others_come_or_go():
    share = Shard(3, 16).share(SLIDES)
    fewer = {slide_id: path for slide_id, path in SLIDES.items() if not slide_id.endswith("7")}
    assert Shard(3, 16).share(fewer) == {slide_id: path for slide_id, path in share.items() if slide_id in fewer}


def test_the_share_of_a_name_is_the_same_on_every_machine_and_in_every_version():
    """Reference: `printf NAME | sha256sum`, whose 16th digit counts from 0."""
    assert [next(n for n in range(1, 17) if Shard(n, 16).holds(name)) for name in ("S001", "S002", "é")] == [4, 3, 4]


@pytest.mark.parametrize("text", ["0/4", "5/4", "a/b", "1", "1/0", "1/4/2", "-1/4", "1.5/4", "", "\u0663/4"])
def test_what_is_no_share_is_told_in_one_sentence(text):
    with pytest.raises(UsageError, match=r"got --shard .*; expected I/N with I from 1 to N, such as 3/16.*: number"):
        Shard.parse(text)


def test_a_share_is_written_as_it_was_read():
    assert str(Shard.parse(" 3/16 ")) == "3/16"
    assert Shard.parse("1/1").share(SLIDES) == SLIDES


def test_names_that_are_no_utf8_have_a_share_too():
    assert Shard(1, 1).holds("caf\udce9")
