import json

import h5py
import numpy as np
import pytest

from dtcwsi.cli.main import status_of


@pytest.fixture
def split(tmp_path):
    path = tmp_path / "splits_0.csv"
    path.write_text(",train,val,test\n0,s1,s3,s4\n1,s2,,\n")
    return path


def test_a_clean_split_ends_with_0(split, capsys):
    assert status_of(["audit-splits", str(split)]) == 0
    assert "no leak found" in capsys.readouterr().out


def test_patients_of_the_labels_table_show_a_leak(split, tmp_path, capsys):
    labels = tmp_path / "labels.csv"
    labels.write_text("case_id,slide_id,label\np,s1,x\nq,s2,y\nr,s3,x\np,s4,x\n")
    assert status_of(["audit-splits", str(split), "--labels", str(labels)]) == 1
    assert f"LEAK {split}: 1 patient with slides in both train and test: p" in capsys.readouterr().out


def test_features_show_copies_and_a_damaged_file_is_passed_over(split, tmp_path, capsys):
    rows = np.random.default_rng(0).standard_normal((80, 16), dtype=np.float32)
    for name, features in {"s1": rows, "s4": rows[::-1], "s2": rows**2}.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["features"] = features
    (tmp_path / "s3.h5").write_bytes(b"nothing")
    assert status_of(["audit-splits", str(split), "--features", str(tmp_path), "--json"]) == 1
    done = capsys.readouterr()
    facts = json.loads(done.out)
    assert facts["leaks"] == 1
    assert facts["findings"][0]["names"] == ["s1 = s4 (100%)"]
    assert "s3: not compared:" in done.err
    assert facts["not_compared"] == ["s3"]


def test_a_file_of_another_kind_ends_with_2(tmp_path, capsys):
    path = tmp_path / "labels.csv"
    path.write_text("slide_id,label\na,x\n")
    assert status_of(["audit-splits", str(path)]) == 2
    assert "expected slide_id,part" in capsys.readouterr().err


def test_features_of_other_slides_end_with_2(split, tmp_path, capsys):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["features"] = np.zeros((3, 4), np.float32)
    assert status_of(["audit-splits", str(split), "--features", str(tmp_path)]) == 2
    assert "none of the 4 slides has a file in" in capsys.readouterr().err


def test_patients_of_the_labels_table_win_over_slides_that_a_run_took_for_patients(tmp_path, capsys):
    rows = ["s1,s1,x,0", "s2,s2,y,0", "s3,s3,x,1", "s4,s4,y,1"]
    (tmp_path / "folds.csv").write_text("\n".join(["slide_id,patient_id,label,fold", *rows]) + "\n")
    for fold, parts in enumerate(("test test train val", "train val test test")):
        (tmp_path / f"fold{fold}").mkdir()
        told = [f"s{number},{part}" for number, part in enumerate(parts.split(), start=1)]
        (tmp_path / f"fold{fold}" / "split.csv").write_text("\n".join(["slide_id,part", *told]) + "\n")
    assert status_of(["audit-splits", str(tmp_path)]) == 0
    labels = tmp_path / "labels.csv"
    labels.write_text("slide_id,label,patient_id\ns1,x,p\ns2,y,q\ns3,x,p\ns4,y,r\n")
    assert status_of(["audit-splits", str(tmp_path), "--labels", str(labels)]) == 1
    assert "1 patient with slides in both" in capsys.readouterr().out
    labels.write_text("slide_id,label\ns1,x\ns2,y\ns3,x\ns4,y\n")  # no patients: the run's stay
    (tmp_path / "folds.csv").write_text("\n".join(["slide_id,patient_id,label,fold", "s1,p,x,0", "s3,p,x,1"]) + "\n")
    assert status_of(["audit-splits", str(tmp_path), "--labels", str(labels)]) == 1


def test_labels_of_other_slides_end_with_2_and_slides_without_a_row_are_named(split, tmp_path, capsys):
    labels = tmp_path / "labels.csv"
    labels.write_text("slide_id,label,patient_id\nother,x,p\n")
    assert status_of(["audit-splits", str(split), "--labels", str(labels)]) == 2
    assert "none of the 4 slides of the splits, such as 's1', has a row in" in capsys.readouterr().err
    labels.write_text("slide_id,label,patient_id\ns1,x,p\ns2,y,q\ns3,x,r\n")
    assert status_of(["audit-splits", str(split), "--labels", str(labels)]) == 1
    told = capsys.readouterr().out
    assert "no row in the labels and no patient told: 1 slide: s4" in told
    assert "no leak found among the others" in told
    assert "no patient is told" not in told
    assert status_of(["audit-splits", str(split), "--labels", str(labels), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["without_label"] == ["s4"]


def test_labels_without_a_row_do_not_hide_the_patient_that_a_barcode_tells(tmp_path, capsys):
    split, labels = tmp_path / "split.csv", tmp_path / "labels.csv"
    names = [f"TCGA-05-4244-01Z-00-DX{number}" for number in (1, 2)]
    split.write_text(f"slide_id,part\n{names[0]},train\n{names[1]},test\n")
    labels.write_text(f"slide_id,label\n{names[0]},x\n")
    assert status_of(["audit-splits", str(split), "--labels", str(labels)]) == 1
    assert "1 patient with slides in both train and test: TCGA-05-4244" in capsys.readouterr().out
    labels.write_text("slide_id,label\nTCGA-05-9999-01Z-00-DX1,x\n")
    assert status_of(["audit-splits", str(split), "--labels", str(labels)]) == 2


def test_splits_that_know_no_patient_say_so(split, capsys):
    assert status_of(["audit-splits", str(split)]) == 0
    assert "NOTE all partitions: no patient is told: every slide counts as one of its own" in capsys.readouterr().out


def test_a_slide_in_two_parts_of_a_table_of_parts_is_a_leak(tmp_path, capsys):
    split = tmp_path / "split.csv"
    split.write_text("slide_id,part\ns1,train\ns2,val\ns3,test\ns1,test\n")
    assert status_of(["audit-splits", str(split)]) == 1
    assert f"LEAK {split}: 1 slide in both train and test: s1" in capsys.readouterr().out
