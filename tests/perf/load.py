"""wrk as the client of the benchmarks: it costs little, and one thread of it is enough."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from lambdad.bench.client import Load

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def wrk(directory: Path, headers: Mapping[str, str] | None = None) -> Callable[[str, bytes, int, float], Load]:
    """Something that posts the same JSON again and again; its arguments: URL, body, clients, seconds.

    Any answer other than 2xx fails the test. wrk takes whole seconds.
    """
    program = shutil.which("wrk")
    if program is None:
        pytest.skip("wrk is not installed")
    script = directory / "post.lua"
    sent = {"Content-Type": "application/json", **(headers or {})}

    def run(url: str, body: bytes, clients: int, seconds: float) -> Load:
        script.write_text(
            f"wrk.method = 'POST'\nwrk.body = [==[{body.decode()}]==]\n"
            + "".join(f"wrk.headers['{name}'] = '{value}'\n" for name, value in sent.items())
        )
        command = [program, "-t1", f"-c{clients}", f"-d{round(seconds)}s", "--latency", "-s", str(script), url]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "Non-2xx" not in output, output
        assert "Socket errors" not in output, output
        latency = re.search(r"50%\s+([\d.]+)(us|ms|s|m)", output)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
        assert latency is not None, output
        assert rate is not None, output
        return Load(float(rate[1]), float(latency[1]) * _UNITS[latency[2]])

    return run
