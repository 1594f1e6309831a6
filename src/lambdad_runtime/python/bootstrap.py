"""Start the Python runtime of one execution environment.

Run by the daemon as ``python3.X -I -S bootstrap.py [SDK_FOLDER ...]`` with the environment variables that AWS Lambda
sets. A script is compiled anew at every start, so everything else lives in the package beside it, which is cached.
"""

import sys


def _start() -> None:
    folder = __file__.rpartition("/")[0] or "."
    sys.path.insert(0, folder)
    try:
        from _lambdad_bootstrap.runtime import main  # type: ignore[import-not-found]
    finally:
        sys.path.remove(folder)
    main(sys.argv[1:])


# A multiprocessing child that is spawned imports this file again under another name, and must not become a runtime.
if __name__ == "__main__":
    _start()
