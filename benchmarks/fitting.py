"""The plain training loop of the compressor's benchmarks: Adam, a fixed number of epochs, the last state."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import torch
from sklearn.metrics import roc_auc_score

from clustered import FarthestPoints, KMeansTokens
from dtcwsi.aggregators import create_aggregator
from dtcwsi.bags.packing import join, pack
from dtcwsi.classifier import Classifier
from dtcwsi.models import create_model
from dtcwsi.recipe import TrainingRecipe
from dtcwsi.types import Bag, PackedBags

CLUSTERINGS = {"k-means": KMeansTokens, "farthest-point": FarthestPoints}


RECIPE = TrainingRecipe(epochs=30, batch_size=8, lr=3e-4)


@dataclass(frozen=True)
class Fitted:
    """What came of it: AUC and accuracy on the test bags, tokens, seconds of training."""

    auc: float
    accuracy: float
    tokens_in: float
    tokens_out: float
    seconds: float


def fit(
    name: str,
    options: dict,
    train: Sequence[PackedBags],
    test: Sequence[PackedBags],
    *,
    seed: int,
    recipe: TrainingRecipe = RECIPE,
    on_epoch: Callable[[int, Classifier], object] = lambda *_: None,
) -> Fitted:
    """Train a model on packed single bags and score others; the seed decides weights and the order of bags.

    ``on_epoch`` is shown the model before the first epoch and after each, with the number of epochs done.
    """
    torch.manual_seed(seed)
    width = train[0].features.shape[1]
    model = model_of(name, width, options)
    if model.needs_prototypes:
        model.fit_prototypes(train, seed=seed)
    optimizer = recipe.optimizer_of(model.parameters())
    generator = torch.Generator().manual_seed(seed)
    steps, done = recipe.epochs * -(-len(train) // recipe.batch_size), 0
    model.train()
    start = time.perf_counter()
    on_epoch(0, model)
    for epoch in range(recipe.epochs):
        for chosen in torch.randperm(len(train), generator=generator).split(recipe.batch_size):
            model.set_progress(done / steps)
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate_at(done / steps)
            batch = join([train[index] for index in chosen.tolist()])
            optimizer.zero_grad()
            model.loss(model(batch), batch.labels).backward()
            optimizer.step()
            done += 1
        on_epoch(epoch + 1, model)
    seconds = time.perf_counter() - start
    return scored(model, test, seconds)


def model_of(name: str, width: int, options: dict) -> Classifier:
    """Build a model of the library, or abmil behind one of the two clusterings."""
    clustering = CLUSTERINGS.get(name.removesuffix("-abmil"))
    if clustering is None:
        return create_model(name, in_dim=width, n_classes=2, **options)
    aggregator = create_aggregator("abmil", in_dim=width, n_classes=2)
    return Classifier(name, clustering(width, **options), aggregator, in_dim=width, n_classes=2)


def packed_each(bags: Sequence[Bag]) -> list[PackedBags]:
    """Pack every bag by itself, so that batches only join."""
    return [pack([bag]) for bag in bags]


@torch.no_grad()
def scored(model: Classifier, test: Sequence[PackedBags], seconds: float) -> Fitted:
    """Score bags by a model that took ``seconds`` to train."""
    model.eval()
    outs = [model(bag) for bag in test]
    labels = [int(bag.labels) for bag in test]
    scores = [float(out.logits[0, 1] - out.logits[0, 0]) for out in outs]
    mean = [
        sum(int(tokens) for tokens in column) / len(outs)
        for column in zip(*[(o.tokens_in, o.tokens_out) for o in outs], strict=True)
    ]
    accuracy = sum((score > 0) == label for score, label in zip(scores, labels, strict=True)) / len(labels)
    return Fitted(float(roc_auc_score(labels, scores)), accuracy, *mean, seconds)


def mean_of(fits: Sequence[Fitted]) -> Fitted:
    """Average over folds."""
    return Fitted(*(statistics.mean(values) for values in zip(*map(astuple, fits), strict=True)))
