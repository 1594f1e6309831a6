"""Language bootstraps: the programs that run inside an execution environment and talk to the Runtime API."""
