import pytest

from dtcwsi.job import SlideJob


class _Encoder:
    name, dim, digest, batch_size = "e", 4, "d0", 8

    def encode(self, pixels):
        raise NotImplementedError


@pytest.fixture
def job(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"slide" * 1000)
    return SlideJob(path, tmp_path / "out", encoder=_Encoder())


def test_finished_files_of_earlier_versions_stay_finished(job):
    """Digests as the first version of each step wrote them: if one changes here, every cohort is extracted anew."""
    assert job.digests(0.5) == {
        "tissue": "21b7008734e6eff1",
        "patches": "210e067819877cd5",
        "features": "faaf930280101419",
    }
