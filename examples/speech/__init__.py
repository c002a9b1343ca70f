"""Speech: a recogniser's hypotheses, ranked again with a character model of the book that is read aloud."""
