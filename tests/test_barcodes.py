import pytest

from dtcwsi.barcodes import Barcode, barcode_of, patient_of


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "TCGA-02-0001-01Z-00-DX1.83fce43e-42ac-4dcd-b156-2908e75f2e47",
            Barcode("TCGA-02-0001", "02", "01", "DX1"),
        ),
        ("TCGA-A2-A0CX-01A-01-TS1", Barcode("TCGA-A2-A0CX", "A2", "01", "TS1")),
        ("TCGA-BH-A18V-06A-02-BSB", Barcode("TCGA-BH-A18V", "BH", "06", "BSB")),
        ("tcga-05-4244-11a", Barcode("TCGA-05-4244", "05", "11", None)),
        ("TCGA-05-4244", Barcode("TCGA-05-4244", "05", None, None)),
        ("TCGA-05-4244_tumour", Barcode("TCGA-05-4244", "05", None, None)),
    ],
)
def test_a_barcode_names_patient_site_sample_and_slide(name, told):
    assert barcode_of(name) == told
    assert patient_of(name) == told.patient


@pytest.mark.parametrize("name", ["slide 7", "TCGA-05", "TCGA-05-42445", "my-TCGA-05-4244", "CMU-1"])
def test_other_names_are_their_own_patient(name):
    assert barcode_of(name) is None
    assert patient_of(name) == name
