"""Whether torchrun started this process, and where it stands among the others."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """One of the processes that torchrun started, on one machine or several.

    Attributes:
        rank: its number, from 0, among all.
        world: how many there are.
        local: how many of them on this machine.
        restarts: how often torchrun has started all of them again, after one ended badly.
    """

    rank: int
    world: int
    local: int
    restarts: int

    @property
    def nodes(self) -> int:
        """How many machines there are.

        Raises:
            ValueError: not as many processes on each.
        """
        if self.world % self.local:
            raise ValueError(f"torchrun must start as many processes on each node, got {self.world} with {self.local}")
        return self.world // self.local


def launch() -> Launch | None:
    """What torchrun tells by environment variables; None where it did not start this process."""
    told = os.environ
    if "TORCHELASTIC_RUN_ID" not in told or "RANK" not in told:
        return None
    restarts = int(told.get("TORCHELASTIC_RESTART_COUNT", 0))
    return Launch(int(told["RANK"]), int(told["WORLD_SIZE"]), int(told["LOCAL_WORLD_SIZE"]), restarts)


def speaks() -> bool:
    """Whether this process writes files and tells what all do alike: the first does, and one that is alone."""
    found = launch()
    return found is None or found.rank == 0
