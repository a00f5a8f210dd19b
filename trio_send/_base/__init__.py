"""Words that every folder speaks, and that know nobody: codes, errors, checks, wait handles.

Everything here may be used from all other folders.
"""
