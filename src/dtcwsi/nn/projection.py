"""What stands in front of most systems: a linear map of the features."""

from torch import nn

from dtcwsi.nn.linear import Linear
from dtcwsi.options import check_share, check_whole_number

__all__ = ["projection_of"]


def projection_of(in_dim: int, projection: int | None, dropout: float) -> tuple[nn.Module, int]:
    """Build Linear + ReLU + dropout, or dropout alone where ``projection`` is None.

    Returns: the module and its width.  Raises: OptionError if an option is out of range.
    """
    width = in_dim if projection is None else check_whole_number("projection", projection)
    rate = check_share("dropout", dropout)
    if projection is None:
        return nn.Dropout(rate), width
    return nn.Sequential(Linear(in_dim, width), nn.ReLU(inplace=True), nn.Dropout(rate)), width
