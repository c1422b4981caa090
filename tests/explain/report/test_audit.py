"""The report finds what `dtcwsi audit-splits` finds."""

import shutil

from dtcwsi.bags.split_audit import audit_splits
from dtcwsi.bags.split_files import read_splits
from dtcwsi.explain.report.audit import audits
from dtcwsi.explain.report.runs import read_run


def test_runs_of_the_same_splits_are_audited_once_and_a_leak_is_told(runs, tmp_path):
    shutil.copytree(runs[0], tmp_path / "leaks")
    split = tmp_path / "leaks" / "fold1" / "split.csv"
    split.write_text(split.read_text().replace(",train", ",test", 1))
    same, other = audits({"a": read_run(runs[0]), "b": read_run(runs[1]), "c": read_run(tmp_path / "leaks")})
    assert same.names == ("a", "b")
    assert same.audit.leaks == ()
    assert [part.partition for part in same.audit.counts] == ["fold0"] * 3 + ["fold1"] * 3
    assert other.names == ("c",)
    own = audit_splits(read_splits([tmp_path / "leaks"]))
    assert [finding.what for finding in other.audit.findings] == [finding.what for finding in own.findings]
    assert other.audit.leaks[0].where == "fold1"


def test_a_run_without_splits_says_why(runs, tmp_path):
    shutil.copytree(runs[0], tmp_path / "bare")
    for split in (tmp_path / "bare").glob("fold*/split.csv"):
        split.unlink()
    (one,) = audits({"a": read_run(tmp_path / "bare")})
    assert one.audit is None
    assert "holds neither" in one.why
