"""Errors in words."""

__all__ = ["error_text"]


def error_text(error: Exception) -> str:
    """What went wrong, in a line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
    if isinstance(error, MemoryError):
        return f"out of memory {error}"
    # torch appends where in its C++ it was raised
    text = str(error).partition("Exception raised from ")[0]
    return " ".join(text.split()) or type(error).__name__
