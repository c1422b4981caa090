import json
from importlib.metadata import PackageNotFoundError

import pytest

from dtcwsi.cli import doctor

huggingface_hub = pytest.importorskip("huggingface_hub")
from huggingface_hub import constants  # noqa: E402


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine without a token, without weights and without optuna."""

    def version(name, genuine=doctor.version):
        if name == "optuna":
            raise PackageNotFoundError(name)
        return genuine(name)

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    monkeypatch.setattr(doctor, "version", version)
    return tmp_path


def _found(run):
    done = run("doctor", "--json")
    assert done.status == 0
    return {finding["what"]: finding for finding in json.loads(done.out)}


def test_what_is_missing_comes_with_the_way_to_get_it(run, bare):
    found = _found(run)
    assert found["timm"]["here"]
    assert found["optuna"] | {"told": ""} == {
        **{"what": "optuna", "here": False, "told": ""},
        "remedy": 'pip install "dtcwsi[tune]"',
    }
    assert "hf auth login" in found["hub"]["remedy"]
    assert found["uni2-h"]["remedy"].startswith(
        "ask at https://huggingface.co/MahmoodLab/UNI2-h, hf auth login; or uni2-h:"
    )
    assert found["kaiko"]["remedy"].startswith("comes when used; or kaiko:/path")
    assert found["ctranspath"]["remedy"].startswith("get it at https://github.com/Xiyue-Wang/TransPath")


def test_weights_in_the_cache_are_found(run, bare, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "a token")
    path = bare / "models--timm--resnet50.tv_in1k" / "snapshots" / ("a" * 40) / "model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    (path.parents[2] / "refs").mkdir()
    (path.parents[2] / "refs" / "main").write_text("a" * 40)
    found = _found(run)
    assert found["resnet50-clam"] | {"remedy": ""} == found["resnet50-clam"]
    assert str(path) in found["resnet50-clam"]["told"]
    assert found["hub"]["here"]
    assert "a token" not in found["uni"]["remedy"]


def test_the_table_counts_what_is_missing(run, bare):
    lines = run("doctor").out.splitlines()
    assert lines[0].split() == ["what", "found", "how", "to", "get", "it"]
    assert lines[-1].endswith("things missing; only what you use needs to be here.")
