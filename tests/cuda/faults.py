"""The faults that run_faults.py seeds: what each changes in the real sources, and what it is."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    name: str
    file: str  # in kernels/cuda
    says: str
    old: str  # stands in the file once
    new: str


FAULTS = []
