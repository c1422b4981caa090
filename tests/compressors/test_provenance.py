import torch

from dtcwsi.compressors.provenance import patch_stages


def test_patch_stage_is_where_a_patch_stopped_being_alone():
    stages = torch.tensor(
        [
            [0, 1, 1, 2, -1, 0, 1],
            [0, 0, 0, -1, -1, 0, 1],
        ]
    )
    assert patch_stages(stages, torch.tensor([0, 5, 7])).tolist() == [2, 1, 1, 2, 1, 0, 0]
