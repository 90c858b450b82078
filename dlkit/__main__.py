"""`python -m dlkit`, so that `torchrun -m dlkit` works."""

from dlkit.cli import main

main()
