"""Whose operations they are, and what serves them: initiators with engine and dispatcher, policies, awaiting tasks.

`open_initiator`, `current_initiator`, `Initiator` and `ExitPolicy` are public. `current` tells
the socket whose operations are started in a context.
"""
