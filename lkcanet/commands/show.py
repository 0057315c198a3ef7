"""stub"""


def show() -> None:
    """stub"""
