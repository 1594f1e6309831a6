"""Every Node.js that this machine has, as a runtime: kinds of handlers and modules, the context, the SDK, the log."""

from __future__ import annotations

import re

import pytest

from daemons import Daemon
from installed_runtimes import installed, names, require
from lambdad.domain.runtimes import Language

PROBE = """
exports.handler = async (event, context) => {
  console.log('logged', event);
  console.error('complained');
  if (event === 'fail') throw new RangeError('wanted');
  return {
    version: process.version,
    executionEnv: process.env.AWS_EXECUTION_ENV,
    zone: new Date(2026, 0, 1).getTimezoneOffset(),
    language: process.env.LANG,
    event,
    context: {
      functionName: context.functionName,
      functionVersion: context.functionVersion,
      invokedFunctionArn: context.invokedFunctionArn,
      memoryLimitInMB: context.memoryLimitInMB,
      awsRequestId: context.awsRequestId,
      logGroupName: context.logGroupName,
    },
    remaining: context.getRemainingTimeInMillis() > 0,
  };
};
"""
CALLBACK = """
exports.handler = (event, context, callback) => {
  setTimeout(() => (event === 'fail' ? callback(new Error('told')) : callback(null, { got: event })), 1);
};
"""
MODULE = "import { readFileSync } from 'fs';\nexport const handler = async () => typeof readFileSync;\n"
SDK_V3 = """
const { LambdaClient, ListFunctionsCommand } = require('@aws-sdk/client-lambda');
exports.handler = async (event, context) => {
  const { Functions } = await new LambdaClient({}).send(new ListFunctionsCommand({ MaxItems: 50 }));
  return Functions.length > 0;
};
"""
SDK_V2 = """
const { Lambda } = require('aws-sdk');
exports.handler = async (event, context) => {
  const { Functions } = await new Lambda().listFunctions().promise();
  return Functions.length > 0;
};
"""


FOUND = installed(Language.NODEJS)


@pytest.fixture(params=names(Language.NODEJS))
def runtime(request):
    return require(FOUND, request.param)


@pytest.fixture
def node(functions, runtime):
    """A function of this runtime."""

    def create(source, file="index.js", **options):
        return functions.create({file: source}, **{"Runtime": runtime.name, "Handler": "index.handler", **options})

    return create


def test_a_handler_and_its_surroundings(functions, runtime, node):
    name = node(PROBE)
    answer = functions.tail(name, {"größe": "ä"})
    assert answer.error is None, answer.raw
    assert answer.payload == {
        "version": f"v{runtime.version_text}",
        "executionEnv": f"AWS_Lambda_{runtime.name}",
        "zone": 0,
        "language": "en_US.UTF-8",
        "event": {"größe": "ä"},
        "context": {
            "functionName": name,
            "functionVersion": "$LATEST",
            "invokedFunctionArn": f"arn:aws:lambda:us-east-1:000000000000:function:{name}",
            "memoryLimitInMB": "128",
            "awsRequestId": answer.request_id,
            "logGroupName": f"/aws/lambda/{name}",
        },
        "remaining": True,
    }
    stamp = rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z\t{answer.request_id}"
    assert re.search(
        rf"\n{stamp}\tINFO\tlogged {{ 'größe': 'ä' }}\n{stamp}\tERROR\tcomplained\nEND RequestId", answer.log
    )


def test_a_failure(functions, node):
    answer = functions.tail(node(PROBE), "fail")
    assert answer.error == "Unhandled"
    assert (answer.payload["errorType"], answer.payload["errorMessage"]) == ("RangeError", "wanted")
    assert answer.payload["trace"][0] == "RangeError: wanted"
    assert "\tERROR\tInvoke Error \t" in answer.log


def test_an_uncaught_exception_ends_the_runtime(functions, node):
    name = node(
        "exports.handler = () => new Promise(() => setTimeout(() => { throw new RangeError('late') }, 1));",
    )
    answer = functions.invoke(name)
    assert (answer.error, answer.payload["errorMessage"]) == ("Unhandled", "late")
    assert functions.invoke(name).payload["errorMessage"] == "late"


def test_a_callback(functions, runtime, node):
    name = node(CALLBACK)
    answer = functions.invoke(name, 1)
    if runtime.version >= (24,):
        assert answer.payload["errorType"] == "Runtime.CallbackHandlerDeprecated"
        return
    assert (answer.error, answer.payload) == (None, {"got": 1})
    assert functions.invoke(name, "fail").payload["errorMessage"] == "told"


def test_an_es_module(functions, node):
    assert functions.invoke(node(MODULE, "index.mjs")).payload == "function"


def test_streaming(aws_lambda, node):
    source = "exports.handler = awslambda.streamifyResponse(async (e, s) => { s.write('a'); s.end('b'); });\n"
    events = list(aws_lambda.invoke_with_response_stream(FunctionName=node(source))["EventStream"])
    assert b"".join(event["PayloadChunk"]["Payload"] for event in events[:-1]) == b"ab"
    assert events[-1] == {"InvokeComplete": {}}


@pytest.mark.parametrize(
    ("source", "error_type"),
    [
        ("syntax error here", "Runtime.UserCodeSyntaxError"),
        ("require('nowhere-to-be-found')", "Runtime.ImportModuleError"),
        ("exports.other = 1", "Runtime.HandlerNotFound"),
    ],
)
def test_code_that_cannot_be_loaded(functions, node, source, error_type):
    answer = functions.invoke(node(source))
    assert (answer.error, answer.payload["errorType"]) == ("Unhandled", error_type)


def test_an_exit(functions, node):
    answer = functions.invoke(node("exports.handler = async () => process.exit(7);\n"))
    assert (answer.error, answer.payload["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert answer.payload["errorMessage"].endswith("Runtime exited with error: exit status 7")


def test_the_sdk_reaches_lambdad(functions, runtime, node):
    # `AWS_ENDPOINT_URL` is known to v3 only.
    name, source = ("@aws-sdk/client-lambda", SDK_V3) if runtime.version >= (18,) else ("aws-sdk", SDK_V2)
    require(FOUND, runtime.name, name)
    if source is SDK_V2:
        source = source.replace("new Lambda()", "new Lambda({ endpoint: process.env.AWS_ENDPOINT_URL })")
    answer = functions.invoke(node(source, Timeout=30, MemorySize=512))
    assert (answer.error, answer.payload) == (None, True), answer.raw


def test_the_nearest_runtime_when_it_is_allowed(tmp_path, functions_of):
    """GetFunction says what really runs."""
    if not FOUND:
        pytest.skip("no Node.js is here: lambdad runtimes add nodejs20.x")
    only = list(FOUND.values())[-1]
    wanted = next(name for name in names(Language.NODEJS) if name != only.name)
    program = tmp_path / "runtimes/nodejs/only/node_modules/node/bin/node"
    program.parent.mkdir(parents=True)
    program.symlink_to(only.executable)
    environ = {"HOME": str(tmp_path), "PATH": str(tmp_path), "LAMBDAD_RUNTIMES_DIR": str(tmp_path / "runtimes")}
    with Daemon(tmp_path / "data", options=("--allow-nearest-runtime",), environ=environ) as daemon:
        functions = functions_of(daemon)
        name = functions.create({"index.js": PROBE}, Runtime=wanted, Handler="index.handler")
        assert functions.invoke(name).payload["version"] == f"v{only.version_text}"
        configuration = functions.client.get_function(FunctionName=name)["Configuration"]
        assert configuration["Runtime"] == wanted
        arn = configuration["RuntimeVersionConfig"]["RuntimeVersionArn"]
        assert arn.startswith("arn:aws:lambda:us-east-1::runtime:")
        log = daemon.client("logs").filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
        assert log[0]["message"].startswith("INIT_START Runtime Version: ")
        assert log[0]["message"].rstrip("\n").endswith(f"Runtime Version ARN: {arn}")
        assert only.version_text in log[0]["message"]
