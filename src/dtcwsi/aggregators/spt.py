"""SPT: a transformer over all tokens of a slide, pre-trained on pairs of views (Hou et al. 2024)."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dtcwsi.nn.fourier import FourierPositions
from dtcwsi.nn.fused import FusedBlock
from dtcwsi.nn.grid import check_placed, laid_out
from dtcwsi.nn.linear import Linear
from dtcwsi.nn.segment import segment_ids
from dtcwsi.options import check_heads, check_share, check_whole_number
from dtcwsi.recipe import TrainingRecipe
from dtcwsi.types import Aggregated, CompressedBags

__all__ = ["Spt"]


class Spt(nn.Module):
    """Linear, prefix tokens, positions, transformer blocks, LayerNorm and Linear of the first prefix token.

    ``prefix`` tokens stand before the slide's, ``layers`` blocks of ``width`` and ``heads``; positions come from
    ``frequencies`` learned waves and a ``position_hidden`` wide MLP. ``dropout`` acts behind each attention and twice
    in each MLP. `Classifier.pretrain` is the self-supervised phase; without it the model is trained on labels alone.
    Places are level-0 pixels divided by the bag's patch size (or its grid's step), row before column, counted from the
    slide's corner as published: a slide shifted on its glass is another one. Bags without coordinates are laid out in
    squares, row by row in the order given. In the last block the first token alone is computed, as no other output is
    read; in the others all attend to all. Time is quadratic in the tokens with two blocks or more, memory linear where
    torch has a fused kernel (CPU, CUDA): two threads of a CPU took 3.4 s and 0.4 GB for 13,900 tokens.
    The prefix starts at 0, as published, and what of it is not read stays equal to each other.
    Attention is what the first token takes from each token in the last block, a mean over heads, without the share of
    the prefix; the teacher is the same without that block's gate.
    The log size and gate of a token are added to the attention logits of its key in every block, so that a token of n
    equal patches of one place weighs as they would, and a gate lowers it for every reader.
    Raises: OptionError if an option is out of range, or the heads do not divide the width; FeaturesError if but some
    bags of a batch have coordinates.
    Source: Hou et al. 2024; the code is the same laboratory's MLNeurosurg/fastglioma. Adaptations: Linear in front, as
    features have other widths; the head is one Linear. The recipe is that of the published supervised phase.
    """

    lays_out: ClassVar[bool] = True
    recipe = TrainingRecipe(
        epochs=40_000,
        batch_size=16,
        optimizer="adamw",
        lr=1.875e-5,
        weight_decay=0.01,
        schedule="cosine",
        warm_up_epochs=4_000,
        patience=40_000,
        source="MLNeurosurg/fastglioma, train_ordmet.yaml; there over a frozen, pre-trained encoder",
    )

    def __init__(
        self,
        in_dim: int,
        n_classes: int,
        *,
        width: int = 512,
        layers: int = 2,
        heads: int = 4,
        prefix: int = 8,
        frequencies: int = 48,
        position_hidden: int = 36,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads(width, heads=heads)
        check_whole_number("frequencies", frequencies)
        check_whole_number("position_hidden", position_hidden)
        rate = check_share("dropout", dropout)
        self.width = width
        self.projection = Linear(in_dim, width)
        self.prefix = nn.Parameter(torch.zeros(check_whole_number("prefix", prefix), width))
        self.prefix_positions = nn.Parameter(torch.zeros(prefix, width))
        self.positions = FourierPositions(width, frequencies=frequencies, hidden=position_hidden)
        *others, self.last = (
            FusedBlock(width, heads=heads, dropout=rate) for _ in range(check_whole_number("layers", layers))
        )
        self.blocks = nn.ModuleList(others)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, n_classes)

    def forward(self, tokens: CompressedBags) -> Aggregated:
        """Classify each bag by itself; a bag without tokens has its prefix alone."""
        vectors, attention, teacher = self._seen(tokens)
        return Aggregated(self.head(vectors), attention, teacher)

    def slide_vectors(self, tokens: CompressedBags) -> Float[Tensor, "bags width"]:
        """Give what the head reads: the part of the model that the self-supervised phase trains."""
        return self._seen(tokens)[0]

    def _seen(
        self, tokens: CompressedBags
    ) -> tuple[Float[Tensor, "bags width"], Float[Tensor, "tokens"], Float[Tensor, "tokens"]]:
        """Take each bag through the blocks.  Returns: bag vectors, attention, and that without the last gate."""
        before = self.prefix + self.prefix_positions
        alone, sizes = len(before), tokens.offsets.diff().tolist()
        rows = self.projection(tokens.features) + self.positions(_places(tokens))
        line = _behind(before.to(rows.dtype), rows, sizes)
        bias, ungated = (_behind(each.new_zeros(alone), each, sizes) for each in (tokens.bias, tokens.size_prior))
        lengths = [alone + size for size in sizes]
        for block in self.blocks:
            line = block(line, bias, lengths)
        first, logits = self.last.of_first(line, bias, lengths)
        attention, teacher = logits + bias, logits.detach() + ungated
        return (
            self.norm(first),
            torch.cat([_share_of_tokens(bag, alone) for bag in torch.split(attention, lengths, dim=1)]),
            torch.cat([_share_of_tokens(bag, alone) for bag in torch.split(teacher, lengths, dim=1)]),
        )


def _behind(
    before: Float[Tensor, "prefix *width"], rows: Float[Tensor, "tokens *width"], sizes: list[int]
) -> Float[Tensor, "rows *width"]:
    """Put the same rows in front of each bag's."""
    return torch.cat([part for bag in torch.split(rows, sizes) for part in (before, bag)])


def _places(tokens: CompressedBags) -> Float[Tensor, "tokens 2"]:
    """Say where tokens lie: rows and columns of the slide's grid, of which merged tokens may have fractions.

    They have 32 bits at least: in bfloat16 the 300th cell is not told from the 301st.
    """
    coords, step = check_placed(laid_out(tokens, "spt"), "spt")
    steps = step.double()[segment_ids(tokens.offsets, len(coords))]
    return (coords.double() / steps[:, None]).flip(1).to(torch.promote_types(tokens.features.dtype, torch.float32))


def _share_of_tokens(logits: Float[Tensor, "heads rows"], prefix: int) -> Float[Tensor, "tokens"]:
    """Average the heads' attention and scale the tokens' part to sum to 1, as logarithms, which do not underflow."""
    return logits.log_softmax(dim=1)[:, prefix:].logsumexp(dim=0).softmax(dim=0)
