"""The keeper of a sandbox's extensions, where the kernel gives it no more processes."""

from __future__ import annotations

import errno
import os
import socket
from unittest import mock

from lambdad_sandbox import extensions, wire


def test_an_extension_for_which_there_is_no_process_is_told_as_one_that_could_not_be_executed() -> None:
    """Anything else would be taken for a shortage of the machine, for which idle environments of others end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    refusal = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    with ours, theirs, mock.patch.object(os, "fork", side_effect=refusal):
        assert extensions._start("late", {}, theirs) == 0
        message, _ = wire.receive(ours)
    assert message == {"extension": "late", "problem": os.strerror(errno.EAGAIN)}
