"""How an operator is made known: its schemas are parsed, and its private ops defined."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import autograd, choice, extension, library, triton_ops
from .operator import Kernels, Operator


def register(
    name: str,
    reference: Callable[..., Any],
    *,
    forward: str,
    backward: str,
    fake_forward: Callable[..., Any],
    fake_backward: Callable[..., Any],
    kernels: Mapping[str, Kernels],
    casts: Sequence[str] = (),
    strided: bool = False,
    stands_in: Callable[[Sequence[Any]], Mapping[str, str]] = lambda options: {},
) -> Operator:
    """Make an operator known, with the backends that have kernels for it.

    The C++ and CUDA kernels are added by the extensions. Those of Triton are the functions `forward` and `backward` of
    `triton_kernels.py` beside the reference, imported at the first call. With `Kernels.parts`, those of `cuda` are
    likewise in `cuda_kernels.py`, and use Triton's kernels for what the extension has none for.

    Args:
        name: of the public function.
        reference: called as reference(*tensors, *options); defines the operator.
        forward: schema of `<name>_<backend>_fwd`: the tensors, then the options, to named results. Its last option may
            be `bool saving`: whether there will be a backward.
        backward: schema of `<name>_<backend>_bwd`: `Tensor grad_<output>` for each output of the public function; then
            what it needs of the tensors and results of forward, by their names; the options; and last, if it is to
            know which gradients are wanted, `bool[] needs`. It returns one gradient for every tensor of `forward`; what
            it returns for one that was left out or needs none (an empty tensor, since a schema can't return None) is
            dropped. `gradients_like` makes such tensors.
        fake_forward, fake_backward: shapes and dtypes of what these return. Their formats follow from the
            options alone, not from the strides of the arguments, which a compiler chooses.
        kernels: backend -> what it has; empty where there is the reference alone.
        casts: names of the tensors that are taken in autocast's dtype.
        strided: kernels of its own backends take images in channels_last where they lie, and an option says which
            format results have.
        stands_in: given the options, the names of results that backward gets in the place of others, which forward then
            leaves empty.
    """
    given, returned = library.parse(name, forward), library.parse(name, backward)
    grads = [argument for argument in returned.arguments if argument.startswith("grad_")]
    tensors = tuple(n for n, kind in given.arguments.items() if "Tensor" in kind)
    unknown = set(casts) - set(tensors)
    assert not unknown, f"{name} casts {unknown}, which it does not take"
    saves = [n for n, kind in returned.arguments.items() if "Tensor" in kind and n not in grads]
    assert set(saves) <= {*tensors, *given.results}, f"backward of {name} takes what forward neither has nor returns"
    assert [g.removeprefix("grad_") for g in grads] == list(given.results[: len(grads)]), f"{name}: outputs come first"
    operator = Operator(
        name,
        reference,
        tensors,
        given.results,
        len(grads),
        tuple(saves),
        stands_in,
        masked="needs" in returned.arguments,
        told="saving" in given.arguments,
        casts=tuple(casts),
        strided=strided,
        kernels=dict(kernels),
        missing={},
    )
    room = reference.__module__.rpartition(".")[0]
    for backend, has in kernels.items():
        for part, schema in has.parts.items():
            library.library.define(f"{part}{schema}")
        library.define(f"{name}_{backend}_fwd", forward, fake_forward)
        library.define(f"{name}_{backend}_bwd", backward, fake_backward)
        if backend == "triton" or has.parts:
            triton_ops.implement(name, backend, f"{room}.{backend}_kernels")
        operator.missing[backend] = why_missing(name, backend, tuple(has.parts))
    autograd.OPERATORS[name] = operator
    return operator


def why_missing(name: str, backend: str, parts: tuple[str, ...] = ()) -> str:
    """Why a backend's kernels of an operator can't run here; "" if they can."""
    if backend == "triton" and not triton_ops.installed():
        return "triton is not installed: pip install triton"
    if backend == "cuda":
        if error := extension.extension_error("_C_cuda"):
            return error
        if parts and not triton_ops.installed():
            return "triton, which runs its other stages, is not installed: pip install triton"
        if not all(library.has_kernel(part, "CUDA") for part in parts):
            return f"the cuda backend was built from another version and lacks {name}: reinstall lkops"
    if backend == "cpu" and (error := extension.extension_error("_C_cpu")):
        if error.startswith("LKOPS_CPU_ISA"):  # asked for, so no silent fallback
            raise ImportError(error)
        return error
    if not any(library.has_kernel(f"{name}_{backend}_fwd", device.upper()) for device in choice.DEVICES[backend]):
        return f"the {backend} backend was built from another version and lacks {name}: reinstall lkops"
    return ""
