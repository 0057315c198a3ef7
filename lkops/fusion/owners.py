"""Whose forward makes the calls of a match, in a graph with children inlined."""

from torch import fx, nn

from .matching import Match


def _owner(node: fx.Node) -> str:
    """Path of the module whose forward makes this call."""
    stack = [str(path) for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    if node.op == "call_module":
        stack = stack[:-1]  # the module that is called
    return stack[-1] if stack else ""


def _common(paths: list[str]) -> str:
    shared = paths[0].split(".") if paths[0] else []
    for path in paths[1:]:
        parts = path.split(".") if path else []
        same = [a == b for a, b in zip(shared, parts, strict=False)]
        shared = shared[: same.index(False) if False in same else len(same)]
    return ".".join(shared)


def is_inlined(graph: fx.Graph) -> bool:
    """Whether some of a graph is of a child."""
    return any(_owner(node) for node in graph.nodes)


def is_of_a_child(match: Match) -> bool:
    """Whether all of the match is in the forward of one child, which gets it itself."""
    return bool(_common([_owner(node) for node in match.nodes]))


def owners(module: nn.Module, matches: list[Match]) -> list[nn.Module]:
    """The children whose forward must be inlined for these matches."""
    paths = {path for match in matches for node in match.nodes if (path := _owner(node))}
    parents = {".".join(path.split(".")[: i + 1]) for path in paths for i in range(path.count(".") + 1)}
    return [module.get_submodule(path) for path in sorted(parents)]
