"""What a program holds: the socket, args, results, streams and pools.

`Socket` gathers one module for each kind of operation. All public classes here are exported by the package.
"""
