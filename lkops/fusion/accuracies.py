"""The accuracy of modules that call lkops' operators themselves."""

from torch import nn


def put(accuracy: str, *models: nn.Module) -> None:
    """Give it to all modules of `lkops.nn` that have one."""
    for model in models:
        for module in model.modules():
            if type(module).__module__ == "lkops.nn" and hasattr(module, "accuracy"):
                module.__dict__["accuracy"] = accuracy
