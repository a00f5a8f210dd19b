"""Sends from threads that run no Trio: starting, waiting, and what a thread's end means.

`trio_send.from_thread` exports what is public.
"""
