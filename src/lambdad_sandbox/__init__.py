"""Isolated processes: what makes a sandbox out of Linux's namespaces, mounts, capabilities and seccomp.

It runs in processes of its own, beside the daemon and never in it: the launcher, which prepares roots and mounts; the
zygotes, which are interpreters that sandboxes are forked from; and the first process of each sandbox. The zygotes run
on the functions' interpreters: standard library only, Python 3.8 and later.
"""
