"""What brings data in: one file per origin, all of them through the checks in `assemble`."""
