import sys
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dtcwsi.encoders import cards, hub, load_encoder
from dtcwsi.errors import EncoderError

timm = pytest.importorskip("timm")
huggingface_hub = pytest.importorskip("huggingface_hub")
from huggingface_hub import constants  # noqa: E402

NAME = "resnet50-clam"


@pytest.fixture(scope="module")
def published():
    torch.manual_seed(0)
    return timm.create_model("resnet50", pretrained=False).state_dict()


@pytest.fixture(scope="module")
def patches():
    return np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub on a machine that is offline and has no token."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    return tmp_path / "cache"


def _into(cache, repo, revision, file, refs=()):
    folder = cache / f"models--{repo.replace('/', '--')}"
    path = folder / "snapshots" / revision / file
    path.parent.mkdir(parents=True)
    for ref in refs:
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / ref).write_text(revision)
    return path


def test_the_same_weights_from_hub_file_and_folder_are_the_same_encoder(cache, tmp_path, published, patches):
    path = _into(cache, "timm/resnet50.tv_in1k", "a" * 40, "model.safetensors", refs=["main"])
    save_file(published, path)
    hub = load_encoder(NAME)
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in published.items()}}, tmp_path / "w.pth")
    file, folder = load_encoder(f"{NAME}:{tmp_path / 'w.pth'}"), load_encoder(f"{NAME}:{path.parent}")
    assert {encoder.digest for encoder in (hub, file, folder)} == {hub.digest}
    assert {(encoder.name, encoder.dim) for encoder in (hub, file, folder)} == {(NAME, 1024)}
    features = hub.encode(patches)
    assert features.shape == (2, 1024)
    np.testing.assert_array_equal(features, file.encode(patches))


def test_a_pinned_revision_is_taken_and_another_can_be_named(cache, monkeypatch):
    card = cards()["kaiko-s16"]
    pinned = _into(cache, card.hub, card.revision, "model.safetensors")
    other = _into(cache, card.hub, "b" * 40, "model.safetensors", refs=["main"])
    for path in (pinned, other):
        save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(EncoderError, match=rf"snapshots/{card.revision}/model.safetensors holds weights of another"):
        load_encoder("kaiko-s16")
    with pytest.raises(EncoderError, match=r"snapshots/b{40}/model.safetensors holds weights of another"):
        load_encoder("kaiko-s16@main")
    with pytest.raises(EncoderError, match="got a revision of the hub's kaiko-s16 and local weights; name one of them"):
        load_encoder("kaiko-s16@main:/weights")


def test_sharded_weights_are_put_together(tmp_path, published):
    names = sorted(published)
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: published[name] for name in part}, tmp_path / file)
    index = ", ".join(f'"{name}": "{file}"' for file, part in parts.items() for name in part)
    (tmp_path / "model.safetensors.index.json").write_text(f'{{"weight_map": {{{index}}}}}')
    save_file(published, tmp_path / "whole.safetensors")
    whole = load_encoder(f"{NAME}:{tmp_path / 'whole.safetensors'}")
    assert load_encoder(f"{NAME}:{tmp_path}").digest == whole.digest


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("uni2-h", r"uni2-h are gated \(CC-BY-NC-ND-4.0\) and there is no token here: ask for access at https://hugg"),
        (
            "kaiko",
            r"not in the hub's cache, and the hub cannot be reached: download model.safetensors from https://hugg",
        ),
        ("ctranspath", r"ctranspath is on no hub: get it from https://github.com/Xiyue-Wang/TransPath"),
        ("uni:nowhere.bin", r"the weights nowhere.bin do not exist"),
    ],
)
def test_weights_that_are_not_here_are_one_sentence_with_the_remedy(cache, name, told):
    with pytest.raises(EncoderError, match=told) as caught:
        load_encoder(name)
    assert "\n" not in str(caught.value)
    assert ":" in name or f"or give a local file: --encoder {name}:/path/to/weights" in str(caught.value)


class _Answer:
    """What the hub's errors ask of a response."""

    headers: dict[str, str] = {}
    request = None


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("GatedRepoError", "uni are gated .+ and the token here was refused: ask for access at"),
        ("RepositoryNotFoundError", "the hub shows no MahmoodLab/UNI to this machine"),
        ("RevisionNotFoundError", "MahmoodLab/UNI has no revision main; name another: uni@REVISION"),
        ("RemoteEntryNotFoundError", "MahmoodLab/UNI at main has none of pytorch_model.bin"),
        (None, r"could not be fetched from the hub \(ConnectionError\)"),
    ],
)
def test_what_the_hub_refuses_is_told(cache, monkeypatch, kind, told):
    error = (
        ConnectionError("no route") if kind is None else getattr(huggingface_hub.errors, kind)("no", response=_Answer())
    )

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "a token")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(EncoderError, match=told):
        load_encoder("uni")


def test_attempts_of_the_hubs_client_are_not_told_one_by_one(cache, monkeypatch, caplog):
    logger = huggingface_hub.utils.logging.get_logger("huggingface_hub.utils._http")
    before = huggingface_hub.utils.logging.get_verbosity()

    def tried(*_, **__):
        logger.warning("Retrying in 1s [Retry 1/5].")
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", tried)
    with pytest.raises(EncoderError, match="could not be fetched"):
        load_encoder("kaiko")
    assert "Retrying" not in caplog.text
    assert huggingface_hub.utils.logging.get_verbosity() == before


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("kaiko", "the hub cannot be reached: download"),
        ("resnet18", r"hub \(it cannot be reached\): download"),
    ],
)
def test_a_hub_whose_name_leads_nowhere_is_not_tried_again_and_again(cache, monkeypatch, name, told):
    asked = []

    def unknown(host, *_, **__):
        asked.append(host)
        raise OSError("Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(hub.socket, "getaddrinfo", unknown)
    with pytest.raises(EncoderError, match=told):
        load_encoder(name)
    assert asked == [urlsplit(constants.ENDPOINT).hostname]
    assert constants.HF_HUB_OFFLINE is False


def test_a_folder_without_weights_names_what_it_looked_for(tmp_path):
    with pytest.raises(
        EncoderError, match=r"holds no weights; expected one of GPFM.pth, model.safetensors, .+bin, or name"
    ):
        load_encoder(f"gpfm:{tmp_path}")


def test_a_checkpoint_that_takes_running_its_pickle_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(
        EncoderError, match="cannot be read without running the pickle in them, .+ refused; expected a plain"
    ):
        load_encoder(f"uni:{tmp_path / 'module.pth'}")


def test_an_architecture_that_timm_has_not_names_the_line(tmp_path, monkeypatch):
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors")
    monkeypatch.setattr(timm, "is_model", lambda name: False)
    with pytest.raises(
        EncoderError, match=r"musk needs beit3_large_patch16_224, which timm .+ has not: pip install -U timm"
    ):
        load_encoder(f"musk:{tmp_path / 'w.safetensors'}")


def test_without_timm_the_install_line_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.delitem(sys.modules, "dtcwsi.encoders.building", raising=False)
    with pytest.raises(EncoderError, match=r'uni needs timm, which is not installed: pip install "dtcwsi\[encoders\]"'):
        load_encoder("uni:/weights.bin")
