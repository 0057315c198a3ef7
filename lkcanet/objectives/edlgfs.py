"""What EDLGFS is trained with: L1, distillation from its edge branch, and weights that are learnt."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.edlgfs import EDLGFS
from ..models.registry import Network
from .base import Batch, Objective

__all__ = ["EdgeDistillation", "sobel"]

_FLOOR = 1e-12  # keeps the slope of the square root finite where an image is flat


def sobel(x: Tensor, *, magnitude: str = "euclidean", padding: str = "replicate") -> Tensor:
    """The edges of every band by itself: the magnitude of its two Sobel derivatives.

        gx = x * [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],   gy = x * its transpose         along columns, and along rows
        y = sqrt(gx^2 + gy^2)   or   |gx| + |gy|

    The kernels are not normalised: a ramp that rises by s per pixel gives 8 s.

    Args:
        x: (N, B, H, W), floating; half precision is widened to float32.
        magnitude: "euclidean" or "sum".
        padding: "replicate" repeats the border; "zeros" sees an edge along it wherever the image is not black there.

    Returns:
        (N, B, H, W). Its gradient is finite everywhere: 1e-12 is added below the root.

    Source: EDLGFS, section 3.1; axes, magnitude and padding are not said there.
    """
    if magnitude not in ("euclidean", "sum"):
        raise ValueError(f"magnitude must be one of euclidean, sum; got {magnitude!r}")
    if padding not in ("replicate", "zeros"):
        raise ValueError(f"padding must be one of replicate, zeros; got {padding!r}")
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    # sums of slices, not a conv: autocast would run that in half precision
    x = F.pad(x, (1, 1, 1, 1), mode="replicate" if padding == "replicate" else "constant")
    columns = x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]
    rows = x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]
    gx, gy = columns[..., 2:] - columns[..., :-2], rows[..., 2:, :] - rows[..., :-2, :]
    return gx.abs() + gy.abs() if magnitude == "sum" else (gx.square() + gy.square() + _FLOOR).sqrt()


class EdgeDistillation(Objective):
    """The loss of EDLGFS, which trains main and edge branch together.

        L          = w1 L_image + w2 L_edges + pull KL(w | w at the start)
        L_image    = |I_SR - I_HR|
        L_edges    = features + image + branch
        features   = mean over the stages n of |F_n - E_n|
        image      = |sobel(I_SR) - edges_SR|
        branch     = |edges_SR - sobel(I_HR)|

    |.| is the mean absolute difference over batch, channels and pixels. E_n and edges_SR come from the edge branch,
    which gets sobel(I_LR). As printed, both branches follow each other in `features` and `image`; what the edge branch
    knows of edges it has from `branch`, which it alone learns from.

    Weights. The paper learns w1 and w2 by gradient descent on L = w1 L_image + w2 L_edges itself. Unconstrained, they
    run away: dL/dw_i is the loss L_i, which is positive, so that both fall for ever, through zero, after which the
    losses are maximised and L goes to minus infinity with nothing learnt. Here w = softmax(logits): positive, and 1 in
    sum. On its own that would still move all the weight to the smaller loss; the divergence KL = sum w_i log(w_i / s_i)
    from the start s holds it: with the losses fixed L is least at

        w_i = s_i exp(-L_i / pull) / Z,   L = -pull log(sum s_i exp(-L_i / pull)) >= min(L_i) >= 0

    so that w stays within a factor of exp(|L_1 - L_2| / pull) of the start, and L falls only as the losses do.

    Args:
        edge_weight: w2 at the start, in (0, 1); w1 is the rest. The paper's are 0.05 and 0.95.
        learn: whether the weights are learnt.
        pull: of the weights to their start, above 0; in units of the losses.
        mutual: whether the edge branch follows the main branch too. False makes E_n and edges_SR constants in
            `features` and `image`, as a teacher's are elsewhere; in short courses the image came out worse.
        compared: "edges" as above; "image" puts I_SR itself in place of sobel(I_SR), as the paper has it, which draws
            intensities towards edge strengths.
        magnitude, padding: of `sobel`.

    Raises:
        ValueError: an option that is out of range, or a network without edge branch.

    Source: EDLGFS, section 3.3, where sums and means, constants, the groups that w1 and w2 weigh, and how the weights
    are kept from running away are open.
    """

    start: Tensor
    terms = ("l1", "edge_features", "edge_image", "edge_branch", "edge_weight")

    def __init__(
        self,
        *,
        edge_weight: float = 0.05,
        learn: bool = True,
        pull: float = 1.0,
        mutual: bool = True,
        compared: str = "edges",
        magnitude: str = "euclidean",
        padding: str = "replicate",
    ) -> None:
        super().__init__()
        for name, value, most in (("edge_weight", edge_weight, 1.0), ("pull", pull, math.inf)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < most:
                limit = "in (0, 1)" if most == 1 else "a finite number above 0"
                raise ValueError(f"{name} must be {limit}, got {value!r}")
        if compared not in ("edges", "image"):
            raise ValueError(f"compared must be one of edges, image; got {compared!r}")
        self.pull, self.mutual, self.compared = pull, mutual, compared
        self.sobel: dict[str, Any] = {"magnitude": magnitude, "padding": padding}
        self.options: dict[str, Any] = {
            "edge_weight": edge_weight,
            "learn": learn,
            "pull": pull,
            "mutual": mutual,
            "compared": compared,
            **self.sobel,
        }
        sobel(torch.zeros(1, 1, 1, 1), **self.sobel)  # refuses what it does not know
        start = torch.tensor([1 - edge_weight, edge_weight]).log()
        self.register_buffer("start", start)
        self.logits = nn.Parameter(start.clone(), requires_grad=learn)

    @property
    def weights(self) -> Tensor:
        """(w1, w2)."""
        return self.logits.softmax(0)

    def total(self, image: Tensor, edges: Tensor) -> Tensor:
        """L of the two losses L_image and L_edges."""
        weights = self.weights
        divergence = (weights * (self.logits.log_softmax(0) - self.start)).sum()
        return weights[0] * image + weights[1] * edges + self.pull * divergence

    def forward(self, model: Network, batch: Batch, passes: float) -> dict[str, Tensor | float]:
        """The total as "loss", and `terms`, unweighted; "edge_weight" is w2. `passes` is not used."""
        if not isinstance(model, EDLGFS):
            raise TypeError(f"model must be an EDLGFS, got {type(model).__name__}")
        if model.edge is None:
            raise ValueError(
                "model must have its edge branch to be trained; this one was folded, or has edge_branch off"
            )
        image, features = model.levels(batch.lowres)
        edges, edge_features = model.edge(sobel(batch.lowres, **self.sobel).to(batch.lowres.dtype))
        branch = _l1(edges, sobel(batch.target, **self.sobel))
        if not self.mutual:
            edges, edge_features = edges.detach(), [level.detach() for level in edge_features]
        levels = torch.stack([_l1(*pair) for pair in zip(features, edge_features, strict=True)]).mean()
        seen = _l1(sobel(image, **self.sobel) if self.compared == "edges" else image, edges)
        l1 = _l1(image, batch.target)
        loss = self.total(l1, levels + seen + branch)
        return {
            "loss": loss,
            "l1": l1,
            "edge_features": levels,
            "edge_image": seen,
            "edge_branch": branch,
            "edge_weight": self.weights[1],
        }

    def facts(self) -> dict[str, Any]:
        return {"objective": {"name": type(self).__name__, **self.options}}


def _l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference; half precision is widened first, as in `lkops.spectral_losses`."""
    a, b = (x.float() if x.dtype in (torch.float16, torch.bfloat16) else x for x in (a, b))
    return F.l1_loss(a, b)
