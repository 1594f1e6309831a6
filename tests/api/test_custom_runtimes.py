"""Functions that bring their own runtime: scripts, compiled programs, and AWS's own runtime interface client."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata

import pytest

from daemons import ROLE, zip_of
from installed_runtimes import SYSTEM_PYTHON

# After "Building a custom runtime" in AWS's developer guide: a loop around curl.
BASH = """#!/bin/sh
set -euo pipefail
source "$LAMBDA_TASK_ROOT/$(echo "$_HANDLER" | cut -d. -f1).sh"
base="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while true; do
  headers="$(mktemp)"
  event=$(curl -sS -LD "$headers" "$base/next")
  id=$(grep -Fi Lambda-Runtime-Aws-Request-Id "$headers" | tr -d '[:space:]' | cut -d: -f2)
  rm "$headers"
  answer=$("$(echo "$_HANDLER" | cut -d. -f2)" "$event")
  curl -sS "$base/$id/response" -d "$answer" >/dev/null
done
"""
BASH_HANDLER = """
function handler () {
  echo "event of ${#1} characters" 1>&2
  echo "{\\"echo\\": $1}"
}
"""

C = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char received[1 << 16];

static size_t receive(int connection) {
    size_t size = 0;
    char *end;
    do {
        ssize_t count = read(connection, received + size, sizeof received - 1 - size);
        if (count <= 0) exit(1);
        received[size += count] = 0;
        end = strstr(received, "\r\n\r\n");
    } while (!end || size < (size_t)(end + 4 - received) + atoi(strstr(received, "Content-Length:") + 15));
    return size;
}

int main(void) {
    char host[64], request[1 << 17];
    int port, connection = socket(AF_INET, SOCK_STREAM, 0);
    sscanf(getenv("AWS_LAMBDA_RUNTIME_API"), "%63[^:]:%d", host, &port);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &address.sin_addr);
    if (connect(connection, (struct sockaddr *)&address, sizeof address)) return 1;
    for (int count = 1;; count++) {
        dprintf(connection, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: %s\r\n\r\n", host);
        receive(connection);
        char id[64];
        sscanf(strstr(received, "Lambda-Runtime-Aws-Request-Id:") + 30, " %63s", id);
        int length = snprintf(request, sizeof request, "{\"count\": %d, \"event\": %s}", count,
                              strstr(received, "\r\n\r\n") + 4);
        printf("event %d\n", count);
        fflush(stdout);
        dprintf(connection,
                "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s",
                id, host, length, request);
        receive(connection);
    }
}
"""

RIC_APP = """
import os
def handler(event, context):
    print("in the handler")
    if event == "fail":
        raise ValueError("as asked")
    return [event, context.aws_request_id, context.function_name, context.get_remaining_time_in_millis() > 0]
"""


def needs(*tools):
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} is missing")


@needs("bash", "curl")
@pytest.mark.parametrize("runtime", ["provided", "provided.al2", "provided.al2023"])
def test_a_shell_script_with_curl(functions, runtime):
    name = functions.create(
        {"bootstrap": BASH, "function.sh": BASH_HANDLER}, Runtime=runtime, Handler="function.handler"
    )
    for event in ({"a": 1}, ["b"], {"a": 2}):
        answer = functions.tail(name, event)
        assert (answer.error, answer.payload) == (None, {"echo": event})
        assert re.search(r"^event of \d+ characters$", answer.log, re.MULTILINE)


@needs("gcc")
def test_a_compiled_program(functions, tmp_path):
    (tmp_path / "runtime.c").write_text(C)
    program = tmp_path / "bootstrap"
    subprocess.run(["gcc", "-O1", "-o", program, tmp_path / "runtime.c"], check=True, timeout=60)
    name = functions.custom(program.read_bytes(), Handler="none")
    # It may be asked again before it has asked for its next event: then there is another environment.
    for n in range(20):
        answer = functions.tail(name, {"n": n})
        count = answer.payload["count"]
        assert answer.payload == {"count": count, "event": {"n": n}}
        assert answer.log.count(f"event {count}\n") == 1
        if count > 2:
            break
    else:
        pytest.fail("no environment was used again")


def packaged(*names):
    """The files of installed distributions, for a system Python of the same version as the tests'."""
    version = subprocess.run([SYSTEM_PYTHON, "-V"], capture_output=True, text=True).stdout
    if version.split()[1].split(".")[:2] != list(map(str, sys.version_info[:2])):
        pytest.skip("the system's Python is another version than that of the tests")
    files = {}
    for name in names:
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            pytest.skip(f"{name} is missing")
        for file in found.files or []:
            if file.suffix in (".py", ".so"):
                files[str(file)] = file.locate().read_bytes()
    return files


def test_awslambdaric(functions):
    bootstrap = f'#!/bin/sh\nexec {SYSTEM_PYTHON} -m awslambdaric "$_HANDLER"\n'
    packages = packaged("awslambdaric", "simplejson", "snapshot-restore-py")
    name = functions.custom(bootstrap, {"app.py": RIC_APP, **packages})
    for event in (1, {"a": "ä"}):
        answer = functions.tail(name, event)
        assert (answer.error, answer.payload) == (None, [event, answer.request_id, name, True])
        assert "\nin the handler\n" in answer.log
    failed = functions.tail(name, "fail")
    assert (failed.error, failed.payload["errorType"]) == ("Unhandled", "ValueError")
    assert "[ERROR] ValueError: as asked" in failed.log
    broken = functions.custom(bootstrap, {"app.py": "import nowhere_to_be_found\n", **packages})
    assert functions.invoke(broken).payload["errorType"] == "Runtime.ImportModuleError"


def test_what_a_custom_runtime_finds_in_its_environment(functions, obedient_variables):
    variables = obedient_variables
    assert variables["AWS_LAMBDA_RUNTIME_API"].startswith("127.0.0.1:")
    assert variables["_HANDLER"] == "any.thing"
    assert "AWS_EXECUTION_ENV" not in variables
    assert os.path.isabs(variables["LAMBDA_TASK_ROOT"])
    assert variables["PWD"] == variables["LAMBDA_TASK_ROOT"]
    assert variables["ARGUMENTS"] == "0"


@pytest.fixture(scope="module")
def obedient_variables(functions):
    if shutil.which("curl") is None:
        pytest.skip("curl is missing")
    source = """#!/bin/sh
base="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
id=$(curl -sS -D - -o /dev/null "$base/next" | grep -i aws-request-id | tr -d '[:space:]' | cut -d: -f2)
ARGUMENTS=$# PWD=$(pwd) env | curl -sS "$base/$id/response" --data-binary @- >/dev/null
curl -sS "$base/next"
"""
    text = functions.invoke(functions.custom(source, Handler="any.thing")).raw.decode()
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


# Packages that cannot be started


def invalid(answer):
    assert (answer.status, answer.error) == (200, "Unhandled")
    return answer.payload["errorType"], answer.payload["errorMessage"].replace(answer.request_id, "<id>")


def test_a_package_without_a_bootstrap(functions, log_of):
    name = functions.create({"main": "#!/bin/sh\n"}, Runtime="provided.al2023")
    answer = functions.tail(name)
    assert invalid(answer) == (
        "Runtime.InvalidEntrypoint",
        "RequestId: <id> Error: Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]",
    )
    assert re.search(
        rf"START RequestId: {answer.request_id} Version: \$LATEST\n{re.escape(answer.payload['errorMessage'])}\n"
        rf"Runtime\.InvalidEntrypoint\nEND RequestId: {answer.request_id}\nREPORT .*"
        r"\tStatus: error\tError Type: Runtime\.InvalidEntrypoint\n$",
        answer.log,
    )
    phases = [re.search(r"Phase: (\w+)", line)[1] for line in log_of(name) if line.startswith("INIT_REPORT")]
    assert phases == ["init", "invoke"]


def test_a_bootstrap_that_is_not_executable(functions, aws_lambda, unique):
    name = unique()
    code = {"ZipFile": zip_of({"bootstrap": "#!/bin/sh\n"}, {"bootstrap": 0o644})}
    aws_lambda.create_function(FunctionName=name, Runtime="provided.al2023", Role=ROLE, Handler="x", Code=code)
    assert invalid(functions.invoke(name))[0] == "Runtime.InvalidEntrypoint"


@pytest.mark.parametrize(
    "bootstrap", [b"\x00\x01nonsense", "#!/nowhere/at/all\n"], ids=["no-program", "no-interpreter"]
)
def test_a_bootstrap_that_cannot_be_run(functions, bootstrap):
    answer = functions.tail(functions.custom(bootstrap))
    assert (answer.status, answer.error) == (200, "Unhandled")
    assert answer.payload["errorType"] in ("Runtime.InvalidEntrypoint", "Runtime.ExitError")
    assert f"REPORT RequestId: {answer.request_id}" in answer.log
