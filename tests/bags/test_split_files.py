import pytest

from dtcwsi.bags.split_files import read_splits
from dtcwsi.errors import CohortError


@pytest.fixture
def written(tmp_path):
    def write(text, name="splits.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        return path

    return write


def parts_of(partition):
    return tuple(partition.parts[part] for part in ("train", "val", "test"))


def test_clams_three_lists_are_read(written):
    path = written(",train,val,test\n0,s1,s4,s5\n1,s2,,s6\n2,s3,,\n", "splits_0.csv")
    splits = read_splits([path])
    assert [parts_of(one) for one in splits.partitions] == [(("s1", "s2", "s3"), ("s4",), ("s5", "s6"))]
    assert splits.partitions[0].chosen
    assert splits.slides == ("s1", "s2", "s3", "s4", "s5", "s6")


def test_clams_row_a_slide_is_read(written):
    path = written(",train,val,test\ns1,True,False,False\ns2,False,True,False\ns3,False,False,True\n")
    assert parts_of(read_splits([path]).partitions[0]) == (("s1",), ("s2",), ("s3",))


def test_patho_bench_has_a_partition_a_column(written):
    path = written(
        "case_id\tslide_id\tBAP1_mutation\tfold_0\tfold_1\np1\ta\t0\ttrain\ttest\np1\tb\t0\ttrain\ttest\np2\tc\t1\ttest\t\n",
        "k=all.tsv",
    )
    splits = read_splits([path])
    assert [parts_of(one) for one in splits.partitions] == [(("a", "b"), (), ("c",)), ((), (), ("a", "b"))]
    assert [one.name for one in splits.partitions] == [f"{path} fold_0", f"{path} fold_1"]
    assert not splits.partitions[0].chosen
    assert splits.labels == {"a": "0", "b": "0", "c": "1"}
    assert splits.patient("a") == splits.patient("b") == "p1"


def test_a_table_of_folds_tests_each_in_turn(written):
    path = written("slide_id,patient_id,label,fold\na,p,x,0\nb,q,y,1\nc,q,y,1\n", "folds.csv")
    splits = read_splits([path])
    assert [parts_of(one) for one in splits.partitions] == [(("b", "c"), (), ("a",)), (("a",), (), ("b", "c"))]
    assert not splits.partitions[0].chosen


def test_a_run_folder_has_its_folds_in_their_order(written, tmp_path):
    written("slide_id,patient_id,label,fold\na,p,x,0\nb,q,y,1\n", "run/folds.csv")
    for fold in (10, 2):
        written("slide_id,part\na,test\nb,train\nc,val\n", f"run/fold{fold}/split.csv")
    splits = read_splits([tmp_path / "run"])
    assert [one.name.split("/")[-2] for one in splits.partitions] == ["fold2", "fold10"]
    assert parts_of(splits.partitions[0]) == (("b",), ("c",), ("a",))
    assert splits.patient("b") == "q"
    assert splits.labels["a"] == "x"


def test_a_folder_of_clams_splits_has_them_by_number(written, tmp_path):
    for number in (10, 9):
        written(f",train,val,test\n0,a{number},b,c\n", f"task/splits_{number}.csv")
    written(",train,val,test\na9,True,False,False\n", "task/splits_9_bool.csv")
    splits = read_splits([tmp_path / "task"])
    assert [one.parts["train"] for one in splits.partitions] == [("a9",), ("a10",)]


def test_patients_follow_from_barcodes_where_nothing_is_told(written):
    splits = read_splits([written("slide_id,part\nTCGA-05-4244-01Z-00-DX1,train\nother,test\n")])
    assert [splits.patient(slide) for slide in splits.slides] == ["TCGA-05-4244", "other"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "has the columns a, b; expected slide_id,part"),
        ("slide_id,label\n1,2\n", "has the columns slide_id, label; expected slide_id,part"),
        ("slide_id,part\n1,tset\n", "row 2 has the part 'tset'; expected train, val or test"),
        ("slide_id,fold\n1,0\n1,1\n", "lists slide '1' more than once"),
        ("slide_id,fold,part\n1,0,train\n1,1,test\n", "lists slide '1' more than once"),
        (
            "slide_id,patient_id,part\n1,p,train\n1,q,test\n",
            "row 3 gives slide '1' the patient_id 'q', another row 'p'",
        ),
        ("train,val,test\nTrue,False,False\n", "has True and False but no column of slides"),
        ("slide_id,part\n", "has a header and no row"),
        ("", "is empty"),
    ],
)
def test_other_files_are_told(written, text, message):
    with pytest.raises(CohortError, match=message):
        read_splits([written(text)])


def test_files_that_disagree_are_told(written):
    one = written("slide_id,case_id,part\na,p,test\n", "one.csv")
    other = written("slide_id,case_id,part\na,q,train\n", "other.csv")
    with pytest.raises(CohortError, match="slide 'a' has the patient 'p' in one file and 'q' in another"):
        read_splits([one, other])


def test_a_folder_without_splits_and_nothing_at_all_are_told(tmp_path):
    with pytest.raises(CohortError, match=r"holds neither fold\*/split.csv nor splits_<number>.csv"):
        read_splits([tmp_path])
    with pytest.raises(CohortError, match="no split file was named"):
        read_splits([])


def test_what_clam_writes_beside_a_split_is_passed_over(written):
    text = {"": ",train,val,test\n0,a,b,c\n", "_bool": ",train,val,test\na,True,False,False\n"}
    text["_descriptor"] = ",train,val,test\nx,40,5,5\ny,38,5,5\n"
    paths = [written(each, f"splits_0{end}.csv") for end, each in text.items()]
    assert [one.name for one in read_splits(paths).partitions] == [str(paths[0])]
    assert parts_of(read_splits(paths[1:2]).partitions[0]) == (("a",), (), ())
    with pytest.raises(CohortError, match="splits_0_descriptor.csv counts slides and names none"):
        read_splits(paths[2:])


def test_slides_without_a_fold_take_no_part(written):
    path = written("slide_id,patient_id,label,fold\na,p,x,0\nb,q,y,1\nc,r,y,\n", "folds.csv")
    assert [parts_of(one) for one in read_splits([path]).partitions] == [(("b",), (), ("a",)), (("a",), (), ("b",))]
    with pytest.raises(CohortError, match="gives no slide a fold"):
        read_splits([written("slide_id,fold\na,\n")])


def test_a_patient_that_is_missing_is_nobodys(written):
    splits = read_splits([written("slide_id,patient_id,part\na,nan,train\nb,NaN,test\n")])
    assert [splits.patient(slide) for slide in "ab"] == ["a", "b"]
