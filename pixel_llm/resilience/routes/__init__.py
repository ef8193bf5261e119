"""Several places that can answer the same call, each with layers of its own, under the layers of the whole call."""
