import math
import pickle

import pytest
import torch
from torch.nn.functional import batch_norm, conv2d, cross_entropy

import dtcwsi
from dtcwsi.aggregators import create_aggregator, patchgd
from dtcwsi.bags.packing import pack
from dtcwsi.compressors import create_compressor
from dtcwsi.errors import FeaturesError, OptionError
from dtcwsi.types import Bag

DIM = 5
SMALL = {"width": 8, "hidden": 6}


def build(**options):
    torch.manual_seed(0)
    model = create_aggregator("patchgd", in_dim=DIM, n_classes=3, **{**SMALL, **options}).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(std=0.4)
            if "norms" in name and name.endswith("weight"):
                weight.add_(1)
        for norm in model.layers.norms:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return model


def bag_of(*cells, seed=0, dim=DIM):
    rows = torch.randn(len(cells), dim, generator=torch.Generator().manual_seed(seed))
    return Bag(rows, torch.tensor(cells).reshape(-1, 2) * 256, 256.0)


def scattered(count, side, seed=0):
    chosen = torch.randperm(side * side, generator=torch.Generator().manual_seed(seed))[:count]
    return bag_of(*torch.stack([chosen % side, chosen // side], dim=1).tolist(), seed=seed)


def full(side=16, seed=0):
    return bag_of(*((x, y) for y in range(side) for x in range(side)), seed=seed)


def tokens_of(*bags, **changed):
    tokens = create_compressor("identity", dim=bags[0].features.shape[1])(pack(list(bags)))
    return type(tokens)(**{**vars(tokens), **changed})


def published(flat_grids):
    """The head with the weights that the published one had when its logits were recorded, encoder left out."""
    model = create_aggregator("patchgd", in_dim=256, n_classes=2, side=16, pooling="flatten", dropout=0.0)
    generator = torch.Generator().manual_seed(0)
    for layer, norm in zip(model.layers.convolutions, model.layers.norms, strict=True):
        layer.weight.data = 0.03 * torch.randn(layer.weight.shape, generator=generator)
        layer.bias.data = 0.1 * torch.randn(256, generator=generator)
        norm.weight.data = 1 + 0.1 * torch.randn(256, generator=generator)
        norm.bias.data = 0.1 * torch.randn(256, generator=generator)
        norm.running_mean = 0.1 * torch.randn(256, generator=generator)
        norm.running_var = torch.randn(256, generator=generator).abs() + 0.5
    model.head.weight.data = 0.1 * torch.randn(2, 1024, generator=generator)
    model.head.bias.data = 0.1 * torch.randn(2, generator=generator)
    model.encoder = torch.nn.Identity()
    grids = torch.randn(flat_grids, 256, 16, 16, generator=generator)
    places = [(x, y) for y in range(16) for x in range(16)]
    corner = torch.tensor(places) * 256
    return model, tokens_of(*(Bag(grid.flatten(1).T, corner, 256.0) for grid in grids))


def test_the_published_head_has_the_published_number_of_parameters():
    model = create_aggregator("patchgd", in_dim=512, n_classes=2, side=16, pooling="flatten")
    encoder = sum(weight.numel() for weight in model.encoder.parameters())
    assert sum(weight.numel() for weight in model.parameters()) - encoder == 2_364_418


def test_the_published_head_gives_the_published_logits_in_evaluation_and_in_training():
    """Recorded from nyunAI/PatchGD, patch_gd/models.py, three full grids; in training without dropout."""
    model, tokens = published(3)
    wanted = torch.tensor([[-2.971130, -4.112463], [-2.603734, -4.841355], [-1.775017, -2.357819]])
    torch.testing.assert_close(model.eval()(tokens).logits, wanted, atol=1e-4, rtol=0)
    model.patch_share = 1.0
    wanted = torch.tensor([[2.016275, 3.056763], [1.826215, -4.197235], [1.779986, 2.538432]])
    torch.testing.assert_close(model.train()(tokens).logits, wanted, atol=1e-4, rtol=0)
    norm = model.layers.norms[3]
    torch.testing.assert_close(norm.running_mean[:3], torch.tensor([0.000346, 0.096776, 0.134816]), atol=1e-4, rtol=0)
    torch.testing.assert_close(norm.running_var[:3], torch.tensor([2.699941, 0.947119, 0.532572]), atol=1e-4, rtol=0)


def by_dense_grids(model, features, cells, weights, gates):
    """Logits and attention of one bag from the definition: torch's convolutions over the whole bounding box."""
    at = {}
    for number, (x, y) in enumerate(cells):
        at.setdefault((x, y), []).append(number)
    side = 8 * (max(max(cell) for cell in cells) // 8 + 1)
    image, there = features.new_zeros(model.head.in_features, side, side), set(at)
    for (x, y), tokens in at.items():
        total = sum(weights[i] for i in tokens)
        image[:, y, x] = sum(weights[i] / total * math.exp(gates[i]) * model.encoder(features[i]) for i in tokens)
    for stride, layer, norm in zip((1, 2, 2, 2), model.layers.convolutions, model.layers.norms, strict=True):
        image = torch.relu(conv2d(image[None], layer.weight, layer.bias, stride=stride, padding=1))
        image = batch_norm(image, norm.running_mean, norm.running_var, norm.weight, norm.bias)[0]
        there = {(x // stride, y // stride) for x, y in there}
        hole = torch.ones(image.shape[1:], dtype=torch.bool)
        for x, y in there:
            hole[y, x] = False
        image = image.masked_fill(hole, 0)
    places = sorted(there)
    rows = torch.stack([image[:, y, x] for x, y in places])
    inside = [[i for i, (x, y) in enumerate(cells) if (x // 8, y // 8) == place] for place in places]
    sums = torch.tensor([sum(weights[i] for i in tokens) for tokens in inside], dtype=torch.float64)
    shares = (model.attention(rows)[:, 0] + sums.log()).softmax(dim=0)
    attention = torch.zeros(len(cells), dtype=torch.float64)
    for share, total, tokens in zip(shares, sums, inside, strict=True):
        for i in tokens:
            attention[i] = share * weights[i] / total
    return model.head(shares @ rows), attention


def test_a_bag_gets_the_logits_and_attention_of_dense_grids_with_holes():
    """Holes, two tokens in one cell, sizes and gates."""
    cells = [*(scattered(70, 21).coords // 256).tolist(), [0, 0], [20, 20], [20, 20]]
    whole, generator = tokens_of(bag_of(*cells)), torch.Generator().manual_seed(3)
    log_size = torch.randint(1, 9, (len(cells),), generator=generator).double().log()
    gate = -torch.rand(len(cells), generator=generator).double()
    tokens = type(whole)(**{**vars(whole), "log_size": log_size, "gate": gate, "features": whole.features.double()})
    model, cells = build().double(), (tokens.coords // 256).tolist()
    out = model(tokens)
    weights = (log_size + gate).exp().tolist()
    logits, attention = by_dense_grids(model, tokens.features, cells, weights, gate.tolist())
    torch.testing.assert_close(out.logits[0], logits, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(out.attention, attention, atol=1e-9, rtol=1e-9)


def head_of(model, grids):
    """The head on dense grids, (bags, width, 16, 16), normalised by the batch."""
    for stride, layer, norm in zip((1, 2, 2, 2), model.layers.convolutions, model.layers.norms, strict=True):
        grids = torch.relu(conv2d(grids, layer.weight, layer.bias, stride=stride, padding=1))
        grids = batch_norm(grids, None, None, norm.weight, norm.bias, training=True)
    return model.head(grids.flatten(1))


def test_training_has_the_gradient_of_the_published_inner_steps():
    model = build(side=16, pooling="flatten", dropout=0.0, patch_share=0.3).double().train()
    tokens, labels = tokens_of(full(seed=1), full(seed=2)), torch.tensor([2, 0])
    tokens = type(tokens)(**{**vars(tokens), "features": tokens.features.double()})
    out = model(tokens)
    out.objective(out.logits, labels).mean().backward()
    ours = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    cells = (tokens.coords // 256).view(2, 256, 2).tolist()
    place = torch.tensor([[16 * y + x for x, y in bag] for bag in cells])
    features = torch.empty(2, 256, DIM, dtype=torch.float64)
    for bag in range(2):
        features[bag, place[bag]] = tokens.features.view(2, 256, DIM)[bag]
    with torch.no_grad():
        latents = model.encoder(features)
    for chosen in torch.randperm(256).split(math.ceil(256 * 0.3)):
        latents = latents.detach().clone()
        latents[:, chosen] = model.encoder(features[:, chosen])
        logits = head_of(model, latents.transpose(1, 2).reshape(2, 8, 16, 16))
        (cross_entropy(logits, labels) / 4).backward()
    torch.testing.assert_close(ours, [weight.grad for weight in model.parameters()], atol=1e-10, rtol=1e-7)
    torch.testing.assert_close(out.logits, logits)


@pytest.mark.parametrize("options", [{}, {"side": 16, "pooling": "flatten"}, {"side": 4}])
def test_ragged_training_with_dropout_has_the_gradient_of_inner_steps_taken_one_by_one(options):
    """Holes, cells of several tokens, a bag of one, gates; each step whole, without sharing or computing again."""
    model = build(dropout=0.3, patch_share=0.3, **options).double().train()
    whole = tokens_of(scattered(90, 30), bag_of((0, 0)), bag_of((0, 0), (0, 0), (9, 1)), scattered(50, 12))
    gate = -torch.rand(len(whole.features), generator=torch.Generator().manual_seed(3)).double()
    tokens = type(whole)(**{**vars(whole), "features": whole.features.double(), "gate": gate.requires_grad_()})
    labels = torch.tensor([0, 2, 1, 1])
    torch.manual_seed(4)
    out = model(tokens)
    loss = out.objective(out.logits, labels).mean()
    ours = torch.autograd.grad(loss, [gate, *model.parameters()])
    torch.manual_seed(4)
    grid, total = model._grid(tokens), 0
    levels, turns = patchgd.levels_of(grid.xy, grid.offsets, (1, 2, 2, 2)), model._turns(grid)
    for step in range(4):
        latents = model._latents(tokens.features, gate, grid.share, grid.of_token, len(grid.xy))
        latents = torch.where((turns == step)[:, None], latents, latents.detach())
        logits, _ = model._pooled(model.layers(latents, levels), levels, grid.bias)
        total = total + cross_entropy(logits, labels) / 4
    torch.testing.assert_close(out.logits, logits)
    theirs = torch.autograd.grad(total, [gate, *model.parameters()])
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-7)


def test_every_patch_is_computed_again_once_with_gradient_and_no_more_than_a_share_at_a_time():
    model, tokens = build(patch_share=0.125).train(), tokens_of(scattered(200, 20), bag_of((0, 0)), full(3))
    given = []
    model.encoder.register_forward_hook(
        lambda _, rows, made: given.append((rows[0].detach(), made.requires_grad or torch.is_grad_enabled()))
    )
    out = model(tokens)
    filled, again = [rows for rows, slopes in given if not slopes], [rows for rows, slopes in given if slopes]
    assert [len(rows) for rows in filled] == [210]
    assert len(again) == 8
    assert max(len(rows) for rows in again) == 25 + 1 + 2
    assert torch.equal(torch.cat(again).sort(dim=0).values, tokens.features.sort(dim=0).values)
    del given[:]
    out.objective(out.logits, torch.tensor([0, 1, 2])).mean().backward()
    assert [len(rows) for rows, _ in given] == [len(rows) for rows in reversed(again)]


def test_the_backward_pass_repeats_the_dropout_and_leaves_the_statistics(monkeypatch):
    model, tokens = build(dropout=0.3).train(), tokens_of(scattered(90, 30), scattered(50, 12))

    def step():
        model.zero_grad()
        torch.manual_seed(4)
        out = model(tokens)
        seen = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        out.objective(out.logits, torch.tensor([0, 2])).mean().backward()
        assert all(torch.equal(tensor, seen[key]) for key, tensor in model.state_dict().items())
        return [weight.grad.clone() for weight in model.parameters()], out.objective.logits.detach()

    slopes, logits = step()
    assert int(model.layers.norms[0].num_batches_tracked) == 8
    assert (logits[0] - logits[1]).abs().max() > 1e-3
    monkeypatch.setattr(patchgd, "checkpoint", lambda run, *given, use_reentrant: run(*given))
    kept, same = step()
    torch.testing.assert_close(same, logits)
    torch.testing.assert_close(slopes, kept, atol=1e-6, rtol=1e-4)


def test_training_keeps_the_first_layer_and_nothing_of_an_inner_step():
    """Latents and the first layer of 100 places x 8, and statistics; ten steps would leave much more."""
    model, kept = build(patch_share=0.1).train(), {}
    weights = {weight.data_ptr() for weight in model.parameters()}
    tokens = tokens_of(scattered(100, 10))

    def keep(tensor):
        if tensor.is_floating_point() and tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = model(tokens)
    assert out.logits.requires_grad
    assert sum(kept.values()) < 3 * 100 * 8


def test_each_inner_step_moves_the_running_statistics_once():
    model, tokens = build(dropout=0.0, patch_share=0.25).train(), tokens_of(scattered(90, 30))
    before = model.layers.running
    model(tokens)
    moved = model.layers.running
    model.patch_share = 1.0
    model(tokens)
    seen = (model.layers.running - moved) / 0.1 + moved
    torch.testing.assert_close(moved, 0.9**4 * before + (1 - 0.9**4) * seen, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"side": 16, "pooling": "flatten"}, {"side": 4}])
def test_a_batch_of_one_tiny_bag_trains(options):
    model = build(**options).train()
    for tokens in (tokens_of(bag_of((0, 0))), tokens_of(bag_of()), tokens_of(bag_of((0, 0), (0, 0), (1, 0)))):
        model.zero_grad()
        out = model(tokens)
        out.objective(out.logits, torch.tensor([1])).mean().backward()
        assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.grad is not None)
    assert model.encoder[0].weight.grad.abs().sum() > 0


def test_the_objective_pickles_and_a_bag_without_patches_has_its_logits():
    model, tokens = build().train(), tokens_of(scattered(20, 9), bag_of())
    with torch.no_grad():
        objective = pickle.loads(pickle.dumps(model(tokens).objective))
    labels, logits = torch.tensor([1, 2]), torch.randn(2, 3)
    wanted = torch.stack([cross_entropy(step[:1], labels[:1]) for step in objective.logits]).mean()
    found = objective(logits, labels)
    torch.testing.assert_close(found[0], wanted)
    torch.testing.assert_close(found[1], cross_entropy(logits[1:], labels[1:]))


@pytest.mark.parametrize("options", [{}, {"side": 16, "pooling": "flatten"}, {"side": 4}])
def test_bags_do_not_see_each_other_in_evaluation(options):
    model = build(**options)
    bags = [scattered(300, 50, seed=1), bag_of(), bag_of((3, 4)), full(), bag_of((0, 0), (90_000, 90_000))]
    batch = model(tokens_of(*bags))
    assert torch.isfinite(batch.logits).all()
    parts = batch.attention.split([len(bag) for bag in bags])
    assert [float(part.sum().detach()) for part in parts] == pytest.approx([1, 0, 1, 1, 1], abs=1e-5)
    assert batch.attention.ge(0).all()
    for bag, logits, attention in zip(bags, batch.logits, parts, strict=True):
        alone = model(tokens_of(bag))
        torch.testing.assert_close(alone.logits[0], logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone.attention, attention, atol=1e-6, rtol=0)


def test_the_order_of_patches_changes_nothing_and_their_places_do():
    model, bag = build(), scattered(60, 16)
    mixed = torch.randperm(60, generator=torch.Generator().manual_seed(5))
    one = model(tokens_of(bag))
    other = model(tokens_of(Bag(bag.features[mixed], bag.coords[mixed], 256.0)))
    torch.testing.assert_close(one.logits, other.logits, atol=1e-5, rtol=0)
    moved = model(tokens_of(Bag(bag.features[mixed], bag.coords, 256.0)))
    assert (one.logits - moved.logits).abs().max() > 1e-3


def test_attention_of_the_flat_head_is_what_places_add_to_the_predicted_class():
    model, tokens = build(side=16, pooling="flatten"), tokens_of(bag_of((0, 0), (1, 0), (9, 0), (0, 15), (12, 12)))
    out = model(tokens)
    weight = model.head.weight.detach().view(3, 8, 4)
    winner = int(out.logits.argmax())
    rows = model.layers(*_given(model, tokens))
    added = ((weight[winner] - weight.mean(dim=0)) * rows.detach().T).sum(dim=0).clamp_min(0)
    place = (tokens.coords // 2048)[:, 0] + 2 * (tokens.coords // 2048)[:, 1]
    wanted = added[place] / place.bincount()[place]
    torch.testing.assert_close(out.attention, wanted / wanted.sum())
    model.head.weight.data.zero_()
    assert model(tokens).attention.tolist() == pytest.approx([0.2] * 5)


def _given(model, tokens):
    grid = model._grid(tokens)
    latents = model._latents(tokens.features, tokens.gate, grid.share, grid.of_token, len(grid.xy))
    return latents, patchgd.levels_of(grid.xy, grid.offsets, (1, 2, 2, 2))


@pytest.mark.parametrize("options", [{}, {"side": 16, "pooling": "flatten"}])
def test_gradients_reach_the_gate_and_it_lowers_attention(options):
    model, bag = build(**options), scattered(30, 12)
    gate = torch.full((30,), -0.1, requires_grad=True)
    tokens = tokens_of(bag, gate=gate)
    for mode in (True, False):
        out = model.train(mode)(tokens)
        loss = cross_entropy(out.logits, torch.tensor([1])) if out.objective is None else None
        loss = out.objective(out.logits, torch.tensor([1])).mean() if loss is None else loss
        assert torch.autograd.grad(loss, gate)[0].abs().gt(0).all()
    low = torch.zeros(30).index_fill(0, torch.tensor([7]), -3.0)
    before, after = (model(tokens_of(bag, gate=each)).attention for each in (torch.zeros(30), low))
    in_place = ((tokens.coords // 2048) == (tokens.coords // 2048)[7]).all(dim=1)
    ratios = [(each[7] / each[in_place].sum()).item() for each in (before, after)]
    assert ratios[1] < 0.1 * ratios[0]


def test_batches_must_be_whole_and_it_is_told():
    assert dtcwsi.create_model("dtc-patchgd", in_dim=DIM, n_classes=2).whole_batches
    assert not dtcwsi.create_model("dtc-abmil", in_dim=DIM, n_classes=2).whole_batches


def test_without_coordinates_patches_fill_a_square_in_the_order_given():
    model, rows = build(), torch.randn(7, DIM)
    squared = Bag(rows, torch.tensor([[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1], [0, 2]]) * 256, 256.0)
    batch = tokens_of(Bag(rows), Bag(rows[:0]), Bag(rows[:1]))
    alone = create_compressor("identity", dim=DIM)(pack([squared]))
    torch.testing.assert_close(model(batch).logits[0], model(alone).logits[0], atol=1e-5, rtol=1e-5)
    one = model(tokens_of(Bag(rows[:1]))).logits[0]
    torch.testing.assert_close(model(batch).logits[2], one, atol=1e-5, rtol=1e-5)
    sized = tokens_of(Bag(rows, patch_size_level0=256.0))  # a size without places is no grid
    torch.testing.assert_close(model(sized).logits[0], model(alone).logits[0], atol=1e-5, rtol=1e-5)


def test_a_batch_of_bags_with_coordinates_and_without_is_refused():
    with pytest.raises(FeaturesError, match="patchgd got a batch of which some bags have coordinates and others none"):
        build()(tokens_of(Bag(torch.randn(3, DIM)), bag_of((0, 0), (1, 0))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_share": 0.0}, "got patch_share=0.0; expected a share above 0, up to 1"),
        ({"patch_share": 1.5}, "got patch_share=1.5; expected a share above 0, up to 1"),
        ({"pooling": "flat"}, "got pooling='flat'; expected one of: "),
        ({"pooling": "flatten"}, "got pooling='flatten' without a side; expected one"),
        ({"side": 0}, "got side=0; expected a whole number from 1 on"),
        ({"width": 0}, "got width=0; expected a whole number from 1 on"),
        ({"hidden": 0}, "got hidden=0; expected a whole number from 1 on"),
        ({"dropout": 1.0}, "got dropout=1.0; expected a share"),
    ],
)
def test_options_out_of_range_are_told(options, message):
    with pytest.raises(OptionError, match=message):
        build(**options)


@pytest.mark.parametrize(("share", "steps"), [(1.0, 1), (0.5, 2), (0.3, 4), (0.125, 8), (0.1, 10), (1 / 49, 49)])
def test_the_inner_steps_take_every_share_once(share, steps):
    model = build(patch_share=share)
    assert model.inner_steps == steps
    turns = model._turns(model._grid(tokens_of(full(7), bag_of((0, 0)), bag_of())))
    assert sorted(turns[:49].bincount().tolist(), reverse=True)[0] == math.ceil(49 * share - 1e-9)
    assert int(turns.max()) < steps
