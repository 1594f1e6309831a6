"""The Python runtime: fetches events from the Runtime API, calls the function's handler, sends back what it returns.

It shares its process with the function's code, so it imports as little as it can: `typing`, `json`, `socket`, `logging`
and `traceback` together cost more than everything else here, and most cold starts need none of them.
"""
