"""Start the Python runtime of one execution environment.

Run by the daemon as ``python3.X -I -S bootstrap.py [SDK_FOLDER ...]`` with the environment variables that AWS Lambda
sets. A script is compiled anew at every start, so everything else lives in the package beside it, which is cached.
"""

import os
import sys


def _await_assignment(fd: int) -> None:
    """In a sandbox that was made ahead: wait for the function, whose variables come on `fd`; its code is there then."""
    import json
    import time

    os.write(fd, b"r")
    with open(fd, "rb") as assignment:
        variables = json.load(assignment)
    os.environ.clear()
    os.environ.update(variables)
    time.tzset()
    os.chdir(variables["LAMBDA_TASK_ROOT"])


def _start() -> None:
    folder = __file__.rpartition("/")[0] or "."
    sys.path.insert(0, folder)
    try:
        from _lambdad_bootstrap.runtime import main  # type: ignore[import-not-found]
    finally:
        sys.path.remove(folder)
    assignment = os.environ.get("_LAMBDAD_ASSIGNMENT_FD")
    if assignment:
        _await_assignment(int(assignment))
    # A wrapper script finds this script at the end of the interpreter's command line, as on Lambda.
    sdk_folders = os.environ.pop("_LAMBDAD_SDK_DIRS", "")
    main(sdk_folders.split(":") if sdk_folders else sys.argv[1:])


# A multiprocessing child that is spawned imports this file again under another name, and must not become a runtime.
if __name__ == "__main__":
    _start()
