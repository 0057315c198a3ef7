"""Values as JSON has them."""

from typing import Any

__all__ = ["plain_json"]


def plain_json(value: Any) -> Any:
    """Dicts, lists, texts, numbers: numbers that are not finite as None, of which JSON has none, what else there is as
    its text."""
    if isinstance(value, dict):
        return {str(key): plain_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(entry) for entry in value]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
