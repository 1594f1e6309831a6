"""How a process gives up everything that would let it out of its sandbox."""

from __future__ import annotations

import os
import resource

from . import kernel, seccomp

USER_ID, GROUP_ID = 993, 990
"""Who functions are, inside: the ids that they have on Lambda."""

OPEN_FILES = 1024
PROCESSES = 1024
"""https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html has both."""


def become(user_id: int | None) -> None:
    """Change to a user of this host; None stays who we are, where nobody else may be had."""
    if user_id is not None:
        os.setgroups([])
        os.setresgid(user_id, user_id, user_id)
        os.setresuid(user_id, user_id, user_id)


def enter_user_namespace() -> None:
    """Move into a user namespace in which this process is USER_ID, whoever it is outside. Needs /proc."""
    user_id, group_id = os.geteuid(), os.getegid()
    kernel.set_dumpable(True)  # or the files below belong to root, as they do after a change of user
    kernel.unshare(kernel.CLONE_NEWUSER)
    map_ids(f"{USER_ID} {user_id}", f"{GROUP_ID} {group_id}")


def map_ids(user_ids: str, group_ids: str) -> None:
    """Say which one user and group a new user namespace of this process has: the ids inside, then outside."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user_ids} 1"), ("gid_map", f"{group_ids} 1")):
        with open(f"/proc/self/{name}", "w", encoding="utf-8") as file:
            file.write(text)


def limit_resources(of_user: bool = True) -> None:
    """Open files and processes as on Lambda, or as many as the host lets this user have; and no core dumps.

    Processes are those of the user: not limited for one who has others than the sandbox's (`of_user`).
    """
    for kind, most in (
        (resource.RLIMIT_NPROC, PROCESSES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        if kind == resource.RLIMIT_NPROC and not of_user:
            continue
        _, allowed = resource.getrlimit(kind)
        limit = most if allowed == resource.RLIM_INFINITY else min(most, allowed)
        resource.setrlimit(kind, (limit, limit))


def give_up_capabilities() -> None:
    """Give up what this process may do, what it could gain, and the system calls that no function needs."""
    kernel.drop_capabilities()
    kernel.set_no_new_privileges()
    kernel.install_seccomp(seccomp.program())
