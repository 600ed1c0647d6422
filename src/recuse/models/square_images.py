"""What every architecture for square images has in common."""


class SquareImages:
    """An architecture with the fields ``channels`` and ``size``.

    Attributes:
        channels: Input channels.
        size: Height and width of the input.
    """

    channels: int
    size: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch."""
        return (self.channels, self.size, self.size)


__all__ = ["SquareImages"]
