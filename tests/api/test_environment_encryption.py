"""Environment variables at rest: what is on disk, keys of KMS, and what shows when a key cannot be used.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars-encryption.html
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from api_calls import Refusal, refusal
from daemons import ROLE, Daemon, create_python, zip_of

TELLS = "import os\ndef handler(event, context):\n    return os.environ.get('TOKEN')\n"
CANNOT = "Lambda was unable to decrypt the environment variables because "
CHECK = ". Please check the function's KMS key settings. KMS Exception: "


def invoked(client: Any, name: str, qualifier: str = "$LATEST") -> Any:
    return json.loads(client.invoke(FunctionName=name, Qualifier=qualifier)["Payload"].read())


def environment(client: Any, name: str) -> Any:
    return client.get_function_configuration(FunctionName=name).get("Environment")


def holding(directory: Path, marker: bytes) -> list[str]:
    """The files that have the marker in them."""
    files = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    return [str(path) for path in files if marker in path.read_bytes()]


def test_no_variable_is_on_disk_in_clear(daemon: Daemon) -> None:
    marker, second = (f"marker-{uuid.uuid4().hex}" for _ in range(2))
    aws_lambda, kms = daemon.client("lambda"), daemon.client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    create_python(aws_lambda, "plain", TELLS, Environment={"Variables": {"TOKEN": marker}}, Publish=True)
    create_python(aws_lambda, "keyed", TELLS, Environment={"Variables": {"TOKEN": marker}}, KMSKeyArn=key)
    aws_lambda.update_function_configuration(FunctionName="plain", Environment={"Variables": {"TOKEN": second}})
    aws_lambda.update_function_configuration(FunctionName="keyed", Description="other")
    broken = "def handler(event, context):\n    raise ValueError\n"
    aws_lambda.update_function_code(FunctionName="keyed", ZipFile=zip_of({"app.py": broken}))
    aws_lambda.publish_version(FunctionName="plain")
    assert [invoked(aws_lambda, "plain", number) for number in ("1", "2")] == [marker, second]
    assert invoked(aws_lambda, "keyed")["errorType"] == "ValueError"
    for page in ("health", "info", "events", "metrics"):
        with urllib.request.urlopen(f"{daemon.url}/_lambdad/{page}") as answer:
            assert not any(secret.encode() in answer.read() for secret in (marker, second))
    daemon.kill()
    for secret in (marker.encode(), second.encode()):
        assert not holding(daemon.data_dir, secret)
        assert secret.decode() not in daemon.stderr() + daemon.output
    daemon.start()
    again = daemon.client("lambda")
    assert environment(again, "keyed") == {"Variables": {"TOKEN": marker}}
    assert invoked(again, "plain") == second
    daemon.stop()
    assert not holding(daemon.data_dir, marker.encode())


def test_a_key_of_kms_that_is_disabled_and_deleted_shows(shared_daemon: Daemon, aws_lambda: Any) -> None:
    kms = shared_daemon.client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    name = f"keyed-{uuid.uuid4().hex[:8]}"
    variables = {"Variables": {"TOKEN": "t"}}
    created = create_python(aws_lambda, name, TELLS, Environment=variables, KMSKeyArn=key)
    assert (created["KMSKeyArn"], created["Environment"]) == (key, variables)
    assert invoked(aws_lambda, name) == "t"

    kms.disable_key(KeyId=key)
    assert invoked(aws_lambda, name) == "t", "an environment that is there goes on"
    aws_lambda.update_function_configuration(FunctionName=name, Timeout=4)  # a new environment decrypts
    said = f"DisabledExceptionKMS Message: {key} is disabled."
    assert refusal(aws_lambda.invoke, FunctionName=name) == Refusal(
        "KMSDisabledException", 502, f"{CANNOT}the KMS key used is disabled{CHECK}{said}"
    )
    shown = aws_lambda.get_function(FunctionName=name)["Configuration"]["Environment"]
    assert shown["Error"]["ErrorCode"] == "DisabledException"
    listed = aws_lambda.list_versions_by_function(FunctionName=name)["Versions"]
    assert [version["Environment"] for version in listed] == [shown]
    refused = refusal(aws_lambda.update_function_configuration, FunctionName=name, KMSKeyArn="")
    assert (refused.code, refused.status) == ("InvalidParameterValueException", 400)

    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    refused = refusal(aws_lambda.invoke, FunctionName=name)
    assert (refused.code, refused.status) == ("KMSInvalidStateException", 502)

    kms.cancel_key_deletion(KeyId=key)
    kms.enable_key(KeyId=key)
    assert invoked(aws_lambda, name) == "t"
    without = aws_lambda.update_function_configuration(FunctionName=name, KMSKeyArn="")
    assert "KMSKeyArn" not in without
    kms.disable_key(KeyId=key)
    assert invoked(aws_lambda, name) == "t"


def test_a_runtime_is_started_as_encrypted_variables_have_it(aws_lambda: Any) -> None:
    name = f"node-{uuid.uuid4().hex[:8]}"
    variables = {"Variables": {"NODE_OPTIONS": "--max-semi-space-size=8"}}
    source = "exports.handler = async () => process.execArgv.join(' ')\n"
    aws_lambda.create_function(
        FunctionName=name,
        Runtime="nodejs20.x",
        Role=ROLE,
        Handler="index.handler",
        Code={"ZipFile": zip_of({"index.js": source})},
        Environment=variables,
    )
    assert "space-size" not in invoked(aws_lambda, name)
    aws_lambda.update_function_configuration(FunctionName=name, Environment={"Variables": {}})
    assert "space-size" in invoked(aws_lambda, name)


def test_only_a_key_that_can_be_used_is_taken(shared_daemon: Daemon, aws_lambda: Any) -> None:
    name = f"keyed-{uuid.uuid4().hex[:8]}"
    create_python(aws_lambda, name, TELLS, Environment={"Variables": {"TOKEN": "t"}})
    unknown = f"arn:aws:kms:us-east-1:000000000000:key/{uuid.uuid4()}"
    assert refusal(aws_lambda.update_function_configuration, FunctionName=name, KMSKeyArn=unknown) == Refusal(
        "InvalidParameterValueException",
        400,
        "Lambda was unable to configure access to your environment variables because the KMS key is invalid for "
        "CreateGrant. Please check your KMS key settings. KMS Exception: NotFoundException KMS Message: "
        f"Key '{unknown}' does not exist",
    )
    disabled = shared_daemon.client("kms").create_key()["KeyMetadata"]["Arn"]
    shared_daemon.client("kms").disable_key(KeyId=disabled)
    refused = refusal(aws_lambda.update_function_configuration, FunctionName=name, KMSKeyArn=disabled)
    assert "DisabledException" in refused.message
    assert invoked(aws_lambda, name) == "t"


def test_the_command_line_sets_and_removes_a_key(shared_daemon: Daemon, aws_lambda: Any) -> None:
    key = shared_daemon.client("kms").create_key()["KeyMetadata"]["Arn"]
    name = f"keyed-{uuid.uuid4().hex[:8]}"
    create_python(aws_lambda, name, TELLS, Environment={"Variables": {"TOKEN": "t"}})
    update = ["aws", "lambda", "update-function-configuration", "--function-name", name, "--kms-key-arn"]
    for arn in (key, ""):
        done = subprocess.run([*update, arn], env=shared_daemon.cli_environ(), capture_output=True, check=True)
        answer = json.loads(done.stdout)
        assert answer.get("KMSKeyArn", "") == arn
        assert answer["Environment"] == {"Variables": {"TOKEN": "t"}}
    assert invoked(aws_lambda, name) == "t"


def test_what_an_older_lambdad_has_stored_in_clear_is_encrypted_at_start(daemon: Daemon) -> None:
    marker = f"marker-{uuid.uuid4().hex}"
    created = create_python(daemon.client("lambda"), "old", TELLS, Publish=True)
    daemon.stop()
    variables = {"TOKEN": marker, "LONG": marker * 80}  # beyond a page of the database
    database = daemon.data_dir / "lambdad.db"
    connection = sqlite3.connect(database)
    connection.execute(
        "UPDATE versions SET record = json_set(record, '$.environment', json(?))", [json.dumps(variables)]
    )
    connection.commit()
    connection.close()
    assert holding(daemon.data_dir, marker.encode())
    daemon.start()
    aws_lambda = daemon.client("lambda")
    assert environment(aws_lambda, "old") == {"Variables": variables}
    assert environment(aws_lambda, created["FunctionArn"]) == {"Variables": variables}
    assert invoked(aws_lambda, "old", "1") == marker
    assert aws_lambda.publish_version(FunctionName="old")["Version"] == "1", "its content is what it was"
    daemon.stop()
    assert not holding(daemon.data_dir, marker.encode())
    assert "were in clear text" in daemon.stderr()


@contextmanager
def keyless_kms() -> Iterator[str]:
    """A KMS that makes data keys and lets nobody decrypt."""
    denied = {"__type": "AccessDeniedException", "message": "User: me is not authorized to perform: kms:Decrypt"}
    made = {"Plaintext": "A" * 43 + "=", "CiphertextBlob": "c2VhbGVk", "KeyId": "key"}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            makes = self.headers["X-Amz-Target"].endswith(".GenerateDataKey")
            body = json.dumps(made if makes else denied).encode()
            self.send_response(200 if makes else 400)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_access_that_is_denied_shows_where_the_variables_would_be(tmp_path: Path) -> None:
    said = "User: me is not authorized to perform: kms:Decrypt"
    with keyless_kms() as url, Daemon(tmp_path / "data", ("--neighbour", f"kms={url}")) as daemon:
        aws_lambda = daemon.client("lambda")
        key = "arn:aws:kms:us-east-1:000000000000:key/k"
        created = create_python(aws_lambda, "denied", TELLS, Environment={"Variables": {"TOKEN": "t"}}, KMSKeyArn=key)
        assert created["Environment"] == environment(aws_lambda, "denied")
        assert created["Environment"] == {
            "Error": {
                "ErrorCode": "AccessDeniedException",
                "Message": "Lambda was unable to decrypt your environment variables because the KMS access was denied. "
                f"Please check your KMS permissions. KMS Exception: AccessDeniedException KMS Message: {said}",
            }
        }
        assert [function["Environment"] for function in aws_lambda.list_functions()["Functions"]] == [
            created["Environment"]
        ]
        assert refusal(aws_lambda.invoke, FunctionName="denied") == Refusal(
            "KMSAccessDeniedException",
            502,
            f"{CANNOT}KMS access was denied{CHECK}AccessDeniedExceptionKMS Message: {said}",
        )
