"""Shape aliases. ``batch`` is the number of inputs, ``classes`` the number of classes.

Images are NCHW in [0, 1]; two-dimensional points (``batch 2``) count as images too.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

Images = Float[Tensor, "batch *shape"]
Labels = Int[Tensor, " batch"]
Logits = Float[Tensor, "batch classes"]
PerSample = Float[Tensor, " batch"]
Counts = Int[Tensor, " batch"]
Mask = Bool[Tensor, " batch"]
