"""Image files on a disk: found, accounted for and decoded."""
