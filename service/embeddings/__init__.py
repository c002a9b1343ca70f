"""Embeddings in OpenAI's dialect, /v1/embeddings: texts as vectors of what the network carries after them."""
