import pytest

from dtcwsi.cli.train_settings import assignments
from dtcwsi.errors import OptionError, UnknownNameError
from dtcwsi.models import create_model
from dtcwsi.options import one_of
from dtcwsi.registry import near


@pytest.mark.parametrize(("name", "wanted"), [("ABMIL", "abmil"), ("CLAM_SB", "clam-sb"), ("TransMIL", "transmil")])
def test_capitals_and_underscores_are_no_other_name(name, wanted):
    with pytest.raises(UnknownNameError, match=rf"\b{wanted}\b"):
        create_model(name, in_dim=4, n_classes=2)


def test_names_with_underscores_stay_near():
    assert near("merge_shares", ["merge_share", "lam", "tau", "beta"]) == "merge_share"


def test_a_dozen_names_are_told_in_full():
    tables = [f"table{number}" for number in range(1, 11)]
    with pytest.raises(OptionError, match="table1, table10, table2, .*, table9$"):
        one_of("TABLE", "Table1", tables)


def test_none_is_written_as_models_print_it():
    assert assignments("set", ["projection=None", "gate=none", "cell_size=null"]) == {
        "projection": None,
        "gate": "none",
        "cell_size": None,
    }
