import os

from dtcwsi.store.digest import digest, fingerprint


def test_a_digest_knows_every_parameter_but_not_their_order_or_kind_of_number():
    assert digest("x", a=1, b={"c": 8.0}) == digest("x", b={"c": 8}, a=1.0)
    different = {
        digest("x", a=1),
        digest("x", a=2),
        digest("y", a=1),
        digest("x", b=1),
        digest(a=1),
        digest("x", a="1"),
    }
    assert len(different) == 6


def test_a_fingerprint_survives_copy_and_touch_and_knows_other_bytes(tmp_path):
    content = bytearray(os.urandom(1_000_000))
    path, copy = tmp_path / "a", tmp_path / "b"
    path.write_bytes(content)
    copy.write_bytes(content)
    os.utime(copy, (1, 1))
    assert fingerprint(path) == fingerprint(copy)
    for place in (10, 500_000, 999_990):
        other = bytearray(content)
        other[place] ^= 1
        copy.write_bytes(other)
        assert fingerprint(copy) != fingerprint(path)
    copy.write_bytes(content + b"x")
    assert fingerprint(copy) != fingerprint(path)
    copy.write_bytes(b"")
    assert len(fingerprint(copy)) == 16
