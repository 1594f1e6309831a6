"""The neighbour services, served by moto in a child process of the daemon: `python -m lambdad_neighbours`.

Nothing of the daemon imports this package, so that moto never is in the process that runs invokes; what stops, fails or
grows here is this process's own.
"""
