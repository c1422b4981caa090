"""No compression: every patch is a token."""

import torch

from dtcwsi.compressors.base import Compressor
from dtcwsi.nn.segment import segment_ids
from dtcwsi.types import CompressedBags, PackedBags

__all__ = ["Identity"]


class Identity(Compressor):
    """Keep every patch, in each bag's spatial order: the compressor of plain models, one stage that changes nothing.

    Without ``in_order`` patches stay in the order given, and large bags need not be copied.
    """

    def forward(self, bags: PackedBags) -> CompressedBags:
        """Return: every patch a token of size 1, mass 1 / N and score 0."""
        rows = torch.arange(len(bags.features), device=bags.features.device)
        features, coords, token = bags.features, bags.coords, rows
        if bags.order is not None and self.in_order:
            features = features[bags.order]
            coords = None if coords is None else coords[bags.order]
            token = torch.empty_like(rows).index_copy(0, bags.order, rows)
        ids = segment_ids(bags.offsets)
        within = token - bags.offsets[ids]
        zeros = torch.zeros(len(rows), device=features.device)
        return CompressedBags(
            features=features,
            offsets=bags.offsets,
            log_size=zeros,
            gate=zeros,
            mass=1.0 / bags.offsets.diff()[ids].float(),
            score=zeros,
            coords=coords,
            patch_size_level0=bags.patch_size_level0,
            patch_offsets=bags.offsets,
            patch_to_token=within,
            tokens_by_stage=within[None],
            patch_weight=zeros + 1,
            step_level0=bags.step_level0,
        )
