"""DSMIL: attention by likeness to the critical instance (Li et al. 2021)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, linear, one_hot

from dtcwsi.errors import OptionError
from dtcwsi.later import later
from dtcwsi.nn.attention import predicted_map
from dtcwsi.nn.chunks import passes
from dtcwsi.nn.linear import Linear
from dtcwsi.nn.segment import segment_argmax, segment_ids, segment_pool, segment_softmax
from dtcwsi.nn.starting import start
from dtcwsi.options import check_share, check_switch, check_whole_number
from dtcwsi.recipe import TrainingRecipe
from dtcwsi.types import Aggregated, CompressedBags

__all__ = ["Dsmil"]


class Dsmil(nn.Module):
    """Two streams: the best instance of each class, and attention of all tokens to it.

    Instance stream: c = Linear(h), the critical instance of class c is the first of its largest. Bag stream:
    q = tanh(Linear(ReLU(Linear(h)))), u = softmax(q . q of the critical instance / sqrt(width)), B_c = sum u v, logits
    from all B by one linear map a class. The logits are the bag stream's; a bag's loss is the mean of the binary
    cross-entropies of both streams, averaged over the classes.
    ``queries`` is the width of q; ``values`` adds a Linear + ReLU for v, else v = h; ``dropout`` acts in front of it.
    Weights begin orthogonal, biases at 0, as published. There is a map of attention for each class, u;
    ``out.attention`` is that of the class predicted.
    Raises: OptionError if an option is out of range.
    Source: Li et al. 2021 (binli123/dsmil-wsi). Adaptations: a token's log size and gate are added to its attention
    logit, and the gate scales it in the instance stream; published logits are sigmoids a class, here read by softmax.
    """

    recipe = TrainingRecipe(
        epochs=50,
        batch_size=1,
        lr=1e-4,
        weight_decay=1e-3,
        betas=(0.5, 0.9),
        schedule="cosine",
        lr_end=5e-6,
        source="binli123/dsmil-wsi, train_tcga.py",
    )

    def __init__(
        self, in_dim: int, n_classes: int, *, queries: int = 128, values: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        width = check_whole_number("queries", queries)
        rate = check_share("dropout", dropout)
        self.instance_head = nn.Linear(in_dim, n_classes)
        self.query = nn.Sequential(Linear(in_dim, width), nn.ReLU(), Linear(width, width), nn.Tanh())
        given = check_switch("values", values)
        if rate and not given:
            raise OptionError(f"got dropout={dropout} without values; add values=True or leave it out")
        self.value = nn.Sequential(nn.Dropout(rate), Linear(in_dim, in_dim), nn.ReLU()) if given else nn.Identity()
        self.head = nn.Conv1d(n_classes, n_classes, kernel_size=in_dim)
        start(self, nn.init.orthogonal_)

    def forward(self, tokens: CompressedBags) -> Aggregated:
        """Pool each bag once a class.  ``attention`` is the predicted class's of ``attention_by_class``."""
        rows, offsets, by_class = tokens.features, tokens.offsets, self._nothing(tokens)
        best, scores = by_class, by_class.new_zeros(len(rows), by_class.shape[1])
        if len(rows):
            gate, head = tokens.gate.exp().to(rows.dtype), self.instance_head
            with torch.no_grad():  # slopes go to the critical instances alone
                critical = segment_argmax(linear(rows, head.weight) * gate[:, None] + head.bias, offsets)
            found = rows[critical]
            best = (found * head.weight).sum(dim=2) * gate[critical] + head.bias
            best = best * (offsets.diff() > 0)[:, None]
            scores = self._likeness(rows, found, tokens)
        maps = segment_softmax(scores, offsets, tokens.bias)
        logits = self.head(segment_pool(self.value(rows), maps, offsets)).squeeze(2)
        seen, prior = scores.detach(), tokens.size_prior
        teacher = later(lambda: segment_softmax(seen, offsets, prior).mean(dim=1))

        def objective(logits: Tensor, labels: Tensor) -> Tensor:
            wanted = one_hot(labels, logits.shape[1]).to(logits.dtype)
            both = [binary_cross_entropy_with_logits(stream, wanted, reduction="none") for stream in (logits, best)]
            return 0.5 * (both[0] + both[1]).mean(dim=1)

        chosen = predicted_map(maps, logits, offsets)
        return Aggregated(
            logits, chosen, teacher, attention_by_class=maps, objective=objective if self.training else None
        )

    def _likeness(
        self, rows: Float[Tensor, "tokens dim"], critical: Float[Tensor, "bags classes dim"], tokens: CompressedBags
    ) -> Float[Tensor, "tokens classes"]:
        """Multiply every token's query by those of its bag's critical instances."""
        wanted: Tensor = self.query(critical)
        bag = None if tokens.n_bags == 1 else segment_ids(tokens.offsets, len(rows))

        def products(part: slice) -> Tensor:
            queries: Tensor = self.query(rows[part])
            if bag is None:
                return queries @ wanted[0].T
            return torch.stack([(queries * one[bag[part]]).sum(dim=1) for one in wanted.unbind(1)], dim=1)

        root: float = wanted.shape[2] ** 0.5
        return torch.cat([products(part) for part in passes(rows)]) / root

    def _nothing(self, tokens: CompressedBags) -> Float[Tensor, "bags classes"]:
        return tokens.features.new_zeros(tokens.n_bags, self.instance_head.out_features)
