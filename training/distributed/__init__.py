"""Several processes that train one network: how they are started, find each other and exchange data."""
