"""What processes behind one port share: memory, a lock, sums of limits, how each is and what it has counted."""
