"""`python examples/add_an_operator/check.py`: values and gradients against float64, within twice eager's own error."""

import torch
from scale_channels import scale_channels

from lkops import testing


def main() -> None:
    """Hold the kernel to the rule, then use it."""
    for case in testing.examples("scale_channels").of("small", "awkward"):
        testing.check("scale_channels", "cpu", "cpu", torch.float32, case)
        print(f"{case.name}: as good as eager")
    x, weight = torch.rand(1, 4, 16, 16, requires_grad=True), torch.rand(1, 4, 1, 1)
    compiled = torch.compile(lambda x: scale_channels(x, weight), fullgraph=True, backend="eager")
    compiled(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, (2 * weight).expand_as(x))
    print("compiled, differentiated")


if __name__ == "__main__":
    main()
