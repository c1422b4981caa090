import torch

from dtcwsi.types import CompressedBags


def test_patch_stage_is_where_a_patch_stopped_being_alone():
    stages = torch.tensor(
        [
            [0, 1, 1, 2, -1, 0, 1],
            [0, 0, 0, -1, -1, 0, 1],
        ]
    )
    each = torch.zeros(3)
    tokens = CompressedBags(
        features=torch.zeros(3, 2),
        offsets=torch.tensor([0, 1, 3]),
        log_size=each,
        gate=each,
        mass=each,
        score=each,
        coords=None,
        patch_size_level0=None,
        patch_offsets=torch.tensor([0, 5, 7]),
        patch_to_token=stages[1],
        tokens_by_stage=stages,
        patch_weight=torch.ones(7),
    )
    assert tokens.patch_stage.tolist() == [2, 1, 1, 2, 1, 0, 0]
