"""Several processes that train one network: who takes part, what they say to each other, how they are started."""
