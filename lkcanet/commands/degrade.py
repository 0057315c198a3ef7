"""stub"""


def degrade() -> None:
    """stub"""
