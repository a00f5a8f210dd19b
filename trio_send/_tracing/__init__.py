"""Who watches: instruments, and those that come with the library.

`Instrument` and what comes with it are public. Operations and owners tell an `Instruments` of what happens.
"""
