"""Every Python that this machine has, as a runtime: the handler, its surroundings, the SDK, the log."""

from __future__ import annotations

import os
import re

import pytest

from installed_runtimes import installed, names, require
from lambdad.domain.runtimes import Language

PROBE = """
import json, logging, os, platform, sys, time
from datetime import datetime

logging.getLogger().setLevel("INFO")
loaded = time.time()

def handler(event, context):
    print("printed")
    logging.info("logged %s", event)
    if event == "fail":
        raise RuntimeError("wanted")
    return {
        "version": platform.python_version(),
        "executable": sys.executable,
        "execution_env": os.environ["AWS_EXECUTION_ENV"],
        "zone": datetime.now().astimezone().strftime("%z"),
        "language": os.environ["LANG"],
        "event": event,
        "request_id": context.aws_request_id,
        "remaining": context.get_remaining_time_in_millis() > 0,
        "isolated": not any("site-packages" in entry for entry in sys.path if ".venv" in entry),
        "argv": len(sys.argv),
    }
"""
SDK = """
import boto3

def handler(event, context):
    client = boto3.client("lambda")
    names = [each["FunctionName"] for page in client.get_paginator("list_functions").paginate()
             for each in page["Functions"]]
    return {"version": boto3.__version__, "mine": context.function_name in names}
"""


FOUND = installed(Language.PYTHON)


@pytest.fixture(params=names(Language.PYTHON))
def runtime(request):
    return require(FOUND, request.param)


def test_a_handler_and_its_surroundings(functions, runtime):
    name = functions.python(PROBE, Runtime=runtime.name)
    answer = functions.tail(name, {"größe": "ä"})
    assert answer.error is None, answer.raw
    seen = answer.payload
    assert seen.pop("version") == runtime.version_text
    # In a sandbox it is where Lambda has it, unless it is the system's.
    in_sandbox = f"/var/lang/bin/{os.path.basename(runtime.executable)}"
    assert seen.pop("executable") in (runtime.executable, in_sandbox)
    assert seen == {
        "execution_env": f"AWS_Lambda_{runtime.name}",
        "zone": "+0000",
        "language": "en_US.UTF-8",
        "event": {"größe": "ä"},
        "request_id": answer.request_id,
        "remaining": True,
        "isolated": True,
        "argv": 1,
    }
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.search(
        rf"\nprinted\n\[INFO\]\t{stamp}\t{answer.request_id}\tlogged {{'größe': 'ä'}}\nEND RequestId", answer.log
    )


def test_a_failure(functions, runtime):
    name = functions.python(PROBE, Runtime=runtime.name)
    answer = functions.tail(name, "fail")
    line = PROBE.splitlines().index('        raise RuntimeError("wanted")') + 1
    assert answer.error == "Unhandled"
    assert {**answer.payload, "stackTrace": []} == {
        "errorMessage": "wanted",
        "errorType": "RuntimeError",
        "requestId": answer.request_id,
        "stackTrace": [],
    }
    (frame,) = answer.payload["stackTrace"]
    assert re.fullmatch(rf'  File "/.*/app\.py", line {line}, in handler\n    raise RuntimeError\("wanted"\)\n', frame)
    assert "[ERROR] RuntimeError: wanted\nTraceback (most recent call last):\n" in answer.log


def test_the_sdk_reaches_lambdad(functions, runtime):
    require(FOUND, runtime.name, "boto3")
    answer = functions.invoke(functions.python(SDK, Runtime=runtime.name, Timeout=30, MemorySize=512))
    assert answer.error is None, answer.raw
    assert answer.payload["mine"] is True
    assert re.fullmatch(r"1\.\d+\.\d+", answer.payload["version"])


def test_a_package_of_its_own_goes_before_the_sdk(functions):
    runtime = next((found for found in FOUND.values() if "boto3" in found.packages), None)
    if runtime is None:
        pytest.skip("no Python with an SDK is here: lambdad runtimes add python3.12")
    files = {
        "app.py": "import boto3\ndef handler(e, c):\n    return boto3.mine\n",
        "boto3/__init__.py": "mine = 'own'\n",
    }
    assert functions.invoke(functions.create(files, Runtime=runtime.name)).payload == "own"


def test_handlers_in_packages_and_folders(functions):
    source = "def deep(event, context):\n    return __name__\n"
    by_dots = functions.create({"a/b.py": source}, Handler="a.b.deep")
    by_slashes = functions.create({"a/b.py": source}, Handler="a/b.deep")
    assert functions.invoke(by_dots).payload == functions.invoke(by_slashes).payload == "a.b"
