"""Two compressors of the quality curve that learn nothing and look at every pair: k-means and farthest points.

They loop over bags and remember what they made of each, since the same bags return every epoch.
"""

from abc import abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from dtcwsi.compressors import Compressor
from dtcwsi.compressors.schedule import token_counts
from dtcwsi.nn.segment import offsets_of, segment_ids
from dtcwsi.types import CompressedBags, PackedBags


class _Clustered(Compressor):
    """Turn each bag into a fixed number of tokens, in one stage."""

    def __init__(self, dim: int, *, retention: float) -> None:
        super().__init__(dim)
        self.retention, self.curriculum = retention, 0.0
        self.settings = {"retention": retention}
        self._known: dict[bytes, NDArray[np.int64]] = {}

    @abstractmethod
    def tokens_of(self, rows: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Name each patch's token, -1 for none."""

    def forward(self, bags: PackedBags) -> CompressedBags:
        """Average the patches of each token; a token's size is the number of its patches."""
        counts = torch.from_numpy(token_counts(bags.offsets.diff().numpy(), self.retention))
        offsets, ids = offsets_of(counts), segment_ids(bags.offsets)
        bounds = zip(bags.offsets[:-1].tolist(), bags.offsets[1:].tolist(), counts.tolist(), strict=True)
        made = [self._remembered(bags.features[first:last].numpy(), count) for first, last, count in bounds]
        within = torch.from_numpy(np.concatenate(made))
        inside = within >= 0
        token = (within + offsets[ids])[inside]
        sizes = torch.zeros(int(offsets[-1])).index_add(0, token, torch.ones(len(token)))
        sums = torch.zeros(len(sizes), self.dim).index_add(0, token, bags.features[inside])
        weight = torch.zeros(len(ids)).masked_scatter(inside, 1 / sizes[token])
        return CompressedBags(
            features=sums / sizes[:, None],
            offsets=offsets,
            log_size=sizes.log(),
            gate=torch.zeros_like(sizes),
            mass=sizes / bags.offsets.diff().repeat_interleave(counts),
            score=torch.zeros_like(sizes),
            coords=None,
            patch_size_level0=None,
            patch_offsets=bags.offsets,
            patch_to_token=within,
            tokens_by_stage=within[None],
            patch_weight=weight,
        )

    def _remembered(self, rows: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        key = rows[0].tobytes() + rows[-1].tobytes()
        if key not in self._known:
            self._known[key] = self.tokens_of(rows, count)
        return self._known[key]


class KMeansTokens(_Clustered):
    """The centres of k-means, whose patches are its size."""

    def tokens_of(self, rows: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Cluster; numbers without patches are closed up by splitting off patches of the largest cluster."""
        labels = KMeans(count, n_init=1, random_state=0).fit_predict(rows).astype(np.int64)
        for empty in sorted(set(range(count)) - set(labels.tolist())):
            largest = np.bincount(labels, minlength=count).argmax()
            labels[np.flatnonzero(labels == largest)[0]] = empty
        return labels


class FarthestPoints(_Clustered):
    """Patches chosen one after the other, each the farthest from those before it; the others are dropped."""

    def tokens_of(self, rows: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Choose greedily, the first being the farthest from the mean."""
        squares = (rows * rows).sum(axis=1)
        chosen = [int(((rows - rows.mean(axis=0)) ** 2).sum(axis=1).argmax())]
        far = np.full(len(rows), np.inf, np.float32)
        for _ in range(count - 1):
            last = chosen[-1]
            far = np.minimum(far, squares - 2 * (rows @ rows[last]) + squares[last])
            far[chosen] = -np.inf
            chosen.append(int(far.argmax()))
        labels = np.full(len(rows), -1, np.int64)
        labels[np.sort(chosen)] = np.arange(count)
        return labels
