"""Which models are served: by which names, in which versions, loaded, replaced and unloaded while requests go on."""
