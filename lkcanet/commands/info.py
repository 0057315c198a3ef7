"""stub"""


def info() -> None:
    """stub"""
