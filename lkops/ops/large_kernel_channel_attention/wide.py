"""Backward of the grouped 1x1 conv where a group is too wide for one program of the Triton kernel."""

import torch
from torch import Tensor

WIDEST = 128  # outputs of a group, which the kernel holds in registers and shared memory


def mix_backward(
    grad: Tensor,
    maps: tuple[Tensor, Tensor, Tensor],
    scale: Tensor,
    wm: Tensor,
    bm: Tensor | None,
    interleave: bool,
    du: Tensor | None,
    parts: Tensor | None,
    gradients: tuple[Tensor, Tensor],
    product: Tensor | None,
) -> Tensor:
    """As `triton_backward.mix_backward`, by torch's own batched products, in float32."""
    n, c, h, w = grad.shape
    members = wm.shape[1]
    groups, per_group = 3 * c // members, members // 3

    def grouped(x: Tensor) -> Tensor:  # (N, 3, C, P) -> (N, groups, members, P)
        if interleave:
            x = x.reshape(n, 3, groups, per_group, -1).transpose(1, 2)
        return x.reshape(n, groups, members, -1)

    def spread(x: Tensor) -> Tensor:  # and back
        if interleave:
            x = x.reshape(n, groups, 3, per_group, -1).transpose(1, 2)
        return x.reshape(n, 3, c, -1)

    u = maps[0].float()
    concat = grouped(torch.stack([x.flatten(2) for x in maps], 1).float())
    s, weight = grouped(scale.view(n, 3, c, 1)), wm.float().view(groups, per_group, members)
    dv = (grad * u).view(n, groups, per_group, h * w)
    if du is not None:
        v = weight @ (concat * s)
        if bm is not None:
            v += bm.float().view(groups, per_group, 1)
        du.copy_(grad * v.view_as(grad))
        if product is not None:
            product.copy_(v.view_as(grad) * u)
    back = weight.transpose(1, 2) @ dv
    if parts is not None:
        parts.copy_(spread(back * s).view(n, 3, c, h, w).transpose(0, 1))
    dwm, dbm = gradients
    if dwm.numel():
        dwm.copy_((dv @ (concat * s).transpose(2, 3)).sum(0).view_as(wm))
    if dbm.numel():
        dbm.copy_(dv.sum((0, 3)).flatten())
    return spread((back * concat).sum(-1, keepdim=True)).reshape(n, 3 * c, 1)
