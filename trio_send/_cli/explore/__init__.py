"""``trio-send explore``: worlds of sends, each with something else that happens in it."""
