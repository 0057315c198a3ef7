"""stub"""


def super_resolve() -> None:
    """stub"""
