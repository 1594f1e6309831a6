"""Start a process of this package: `python3.X -I -S start.py launcher CONTROL_FD`, or `zygote [SDK_FOLDER ...]`."""

import sys


def _start() -> None:
    folder = __file__.rpartition("/")[0].rpartition("/")[0]
    sys.path.insert(0, folder)
    if sys.argv[1] == "zygote":
        from lambdad_sandbox.zygote import main as run_zygote

        run_zygote(sys.argv[2:])
    else:
        from lambdad_sandbox.launcher import main as run_launcher

        run_launcher(int(sys.argv[2]))


if __name__ == "__main__":
    _start()
