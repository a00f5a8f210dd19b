"""`trio-send demo`: each face, and what becomes of pending sends when their initiator is left."""
