import json
import subprocess
import sys

import pytest

import dtcwsi
from dtcwsi.catalog import model_options, model_text
from dtcwsi.cli.console import duration, size


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["models"], ["encoders"]])
def test_commands_of_a_real_process_end_well(command):
    done = subprocess.run([sys.executable, "-m", "dtcwsi", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout
    assert command != ["--version"] or done.stdout.startswith("dtcwsi ")


def test_listing_encoders_imports_no_torch():
    code = (
        "import sys; from dtcwsi.cli.main import status_of; status_of(['encoders']); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_encoders_tells_the_facts_of_each_and_the_sources_of_one(run):
    rows = {line.split()[0]: line for line in run("encoders").out.splitlines() if line}
    assert {"virchow2", "2,560", "gated"} <= set(rows["virchow2"].split())
    assert {"colour-texture", "efficientnet-lite0"} <= rows.keys()
    one = run("encoders", "virchow2").out
    assert "a local file or folder of them: --encoder virchow2:/path/to/weights" in one
    assert "None" not in one
    assert "True" not in one
    assert "3158645804b69e3f3bc4439d4116edddf0840a72" in one
    assert "github mahmoodlab/TRIDENT" in one
    facts = json.loads(run("encoders", "--json").out)
    assert facts["conch"]["input_px"] == 448
    assert facts["colour-texture"] == {}
    assert "no card" in run("encoders", "colour-texture").out
    assert "near names: virchow" in run("encoders", "virchov").err


def test_an_unknown_command_names_the_near_one(run):
    done = run("extrct")
    assert done.status == 2
    assert "extract" in done.err


def test_models_tells_one_models_options_and_what_they_mean(run):
    done = run("models", "dtc-abmil")
    assert "``retention`` is the final share of tokens" in done.out
    assert ["merge_share", "0.25"] in [line.split() for line in done.out.splitlines()]
    assert "near names: dtc-abmil" in run("models", "dtc-abmill").err


@pytest.mark.parametrize("name", dtcwsi.list_models())
def test_every_option_of_every_model_is_told(name):
    assert [option for option in model_options(name) if f"``{option}``" not in model_text(name)] == []


def test_models_tells_options_of_parts_once_and_every_name(run):
    done = run("models")
    lines = [line.split() for line in done.out.splitlines()]
    names = [word.strip(",") for line in lines for word in line]
    assert {"abmil", "mean", "dtc-", "tome-"} <= {line[0] for line in lines if line}
    assert set(dtcwsi.list_models()) <= set(names)
    assert names.count("merge_share=0.25") == 1


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (7_830, "2 h 10 min"),
        (3_600, "1 h"),
        (86_400 * 3 + 60, "3 d"),
        (86_400 * 3 + 4 * 3_600, "3 d 4 h"),
    ],
)
def test_durations_are_written_in_the_units_that_matter(seconds, written):
    assert duration(seconds) == written


def test_sizes_are_written_in_the_unit_that_matters():
    assert [size(n_bytes) for n_bytes in (0, 4e5, 12.3e6, 3.44e9, 2.1e11)] == [
        "0.0 MB",
        "0.4 MB",
        "12 MB",
        "3.4 GB",
        "210 GB",
    ]
