"""Speech: hypotheses of a recogniser's lattice, ranked anew with a character model of the book that is read aloud."""
