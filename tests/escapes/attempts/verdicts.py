"""How an attempt ends: refused by an error, contained with what was seen, or escaped."""

import errno
import json
import os
import signal
import traceback

ATTEMPTS = {}
IN_RUNTIME = set()


def attempt(function):
    """An attempt, made in a forked child, so that what it does to its own process is gone afterwards.

    It returns `escaped(...)` or `contained(...)`; an OSError that it lets through means that it was refused.
    """
    ATTEMPTS[function.__name__] = function
    return function


def attempt_in_runtime(function):
    """An attempt that the runtime's own process makes: about what that has, or about processes that outlive a call."""
    IN_RUNTIME.add(function.__name__)
    return attempt(function)


def escaped(what):
    return {"escaped": what}


def contained(**facts):
    return {"contained": facts}


def refused(error):
    return {"refused": error}


def error_of(call, *arguments):
    """The name of the error with which a call fails; None if it succeeds."""
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return None


def every(errors):
    """The verdict over several doors, from what `error_of` said of each: one open door is an escape."""
    doors = [door for door, error in errors.items() if error is None]
    return escaped(doors) if doors else refused(errors)


def is_root():
    """Whether this is root, whom nothing refuses: for attempts that would do harm then, and need not be made."""
    return os.geteuid() == 0


def run(name, event):
    """Make an attempt and return its verdict, or how the child that made it ended."""
    if name in IN_RUNTIME:
        return _verdict(name, event)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with os.fdopen(writing, "wb") as answer:
            answer.write(json.dumps(_verdict(name, event)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        verdict = answer.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return {"killed": signal.Signals(os.WTERMSIG(status)).name}
    return json.loads(verdict)


def _verdict(name, event):
    try:
        return ATTEMPTS[name](event)
    except OSError as error:
        return refused(errno.errorcode.get(error.errno, str(error)))
    except Exception:  # noqa: BLE001 - the attempt itself is wrong: the test that reads this fails
        return {"failed": traceback.format_exc()}
