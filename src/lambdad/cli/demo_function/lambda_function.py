"""The function of `lambdad demo`: it greets, and says what it knows of the environment that it runs in."""

from __future__ import annotations

import os
import platform
from typing import Any

invocations = 0


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer with a greeting. `name` in the event is whom to greet."""
    global invocations
    invocations += 1
    name = event.get("name", "world")
    print(f"greeting {name}, invocation {invocations} of this environment")  # noqa: T201 (it goes to the function's log)
    return {
        "message": f"Hello, {name}!",
        "cold_start": invocations == 1,
        "function": context.function_name,
        "memory_mb": int(context.memory_limit_in_mb),
        "milliseconds_left": context.get_remaining_time_in_millis(),
        "python": platform.python_version(),
        "log_stream": os.environ["AWS_LAMBDA_LOG_STREAM_NAME"],
    }
