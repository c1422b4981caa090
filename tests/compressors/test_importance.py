import pytest
import torch

from dtcwsi.compressors.importance import Importance


def trained(dim=8, **options):
    torch.manual_seed(0)
    importance = Importance(dim, **options)
    torch.nn.init.normal_(importance.last.weight)
    return importance


def test_an_untrained_scorer_prefers_nothing_unless_told_not_to_start_flat():
    assert torch.equal(Importance(8).values(torch.randn(5, 8)).score, torch.zeros(5, dtype=torch.float64))
    assert Importance(8, flat_start=False).values(torch.randn(5, 8)).score.unique().numel() == 5


@pytest.mark.parametrize("norm", [True, False])
def test_values_are_the_scores_and_have_their_gradient(norm):
    importance, tokens = trained(norm=norm), torch.randn(50, 8)
    values = importance.values(tokens).score
    assert values.dtype == torch.float64
    torch.testing.assert_close(values.float(), importance(tokens).detach(), atol=1e-5, rtol=0)
    taught = importance.taught(tokens, values)
    assert torch.equal(taught, values)
    weight = importance.last.weight
    torch.testing.assert_close(
        torch.autograd.grad(taught.sum(), weight)[0], torch.autograd.grad(importance(tokens).sum(), weight)[0]
    )


def test_values_do_not_depend_on_the_rows_beside_them():
    importance, tokens = trained(256), torch.randn(4001, 256)
    alone = [importance.values(tokens[i : i + 1]) for i in range(0, 4001, 500)]
    for order in (torch.arange(4001), torch.randperm(4001)):
        together, back = importance.values(tokens[order]), order.argsort()[::500]
        torch.testing.assert_close(together.score[back], torch.cat([one.score for one in alone]), atol=1e-12, rtol=0)
        assert torch.equal(together.length[back], torch.cat([one.length for one in alone]))


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("onednn", [True, False])
def test_values_are_those_of_float64(norm, onednn, monkeypatch):
    if not onednn:
        monkeypatch.setattr("dtcwsi.compressors.importance.convolves", lambda *_: False)
    importance, tokens = trained(512, norm=norm), 3 + torch.randn(3000, 512)
    found = importance.values(tokens)
    true = importance.double()(tokens.double()).detach()
    torch.testing.assert_close(found.score, true, atol=1e-12 if not onednn else 2e-5, rtol=0)
    torch.testing.assert_close(found.length, tokens.norm(dim=1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("compiled", [False, True])
def test_no_tokens_have_no_values(compiled):
    values = trained(64).values
    found = (torch.compile(values, backend="eager") if compiled else values)(torch.randn(0, 64), with_view=True)
    assert (len(found.score), len(found.length), found.view.shape) == (0, 0, (0, 64))


def test_tokens_of_other_types_are_scored_as_their_numbers_are():
    importance, tokens = trained(64), torch.randn(500, 64).half()
    assert torch.equal(importance.values(tokens).score, importance.values(tokens.float()).score)
    torch.testing.assert_close(
        importance.values(tokens.double()).score, importance.values(tokens).score, atol=2e-5, rtol=0
    )


def test_float32_scores_are_close_and_no_other_type():
    exact, quick = trained(64), trained(64, exact=False)
    quick.load_state_dict(exact.state_dict())
    tokens = torch.randn(100, 64)
    assert quick.values(tokens).score.dtype == torch.float32
    torch.testing.assert_close(quick.values(tokens).score.double(), exact.values(tokens).score, atol=1e-5, rtol=0)


def test_lengths_are_of_the_view_if_there_is_one():
    importance, tokens = trained(), 3 * torch.randn(20, 8)
    torch.testing.assert_close(importance.values(tokens).length, tokens.norm(dim=1))
    seen = importance.values(tokens, with_view=True)
    expected = importance.first(importance.norm(tokens)).detach()
    torch.testing.assert_close(seen.view, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seen.length, expected.norm(dim=1), atol=1e-5, rtol=1e-5)


def test_autocast_changes_no_score():
    importance, tokens = trained(64), torch.randn(30, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = importance.values(tokens).score
    assert torch.equal(inside, importance.values(tokens).score)


@pytest.mark.parametrize(("dim", "width"), [(350, 7), (1362, 2), (512, 64)])
def test_equal_tokens_have_equal_scores_wherever_they_lie(dim, width):
    importance, token = trained(dim, width=width), torch.randn(1, dim)
    tokens = torch.randn(3000, dim)
    tokens[[0, 1, 17, 400, 1023, 1024, 2999]] = token
    score = importance.values(tokens).score[[0, 1, 17, 400, 1023, 1024, 2999]]
    assert (score - importance.values(token).score).abs().max() < 1e-12
