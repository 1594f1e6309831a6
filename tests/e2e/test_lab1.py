"""Lab 1 of the seeds ("Create Simple Lambda"), step by step with the AWS CLI: create, write code, test, view logs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from daemons import Daemon

# Steps 1 and 2, word for word, with the blank lines' blanks.
# ruff: noqa: W293
CODE = """\
import json

def lambda_handler(event, context):
    print(f"Event: {json.dumps(event)}")
    
    name = event.get('name', 'World')
    
    return {
        'statusCode': 200,
        'body': json.dumps({
            'message': f'Hello, {name}!',
            'event_received': event
        })
    }
"""
TEST_EVENT = """\
{
  "name": "AWS Lambda"
}
"""


def test_lab_1(daemon: Daemon, tmp_path: Path) -> None:
    def shell(command: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", command], cwd=tmp_path, env=daemon.cli_environ(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    (tmp_path / "lambda_function.py").write_text(CODE)
    (tmp_path / "TestEvent.json").write_text(TEST_EVENT)
    shell("python3 -m zipfile -c function.zip lambda_function.py")
    created = json.loads(
        shell(
            "aws lambda create-function --function-name HelloWorldFunction --runtime python3.11"
            " --role arn:aws:iam::000000000000:role/lambda-role"
            " --handler lambda_function.lambda_handler --zip-file fileb://function.zip"
        )
    )
    assert created["FunctionName"] == "HelloWorldFunction"
    shell("aws lambda wait function-active-v2 --function-name HelloWorldFunction")

    shell("aws lambda invoke --function-name HelloWorldFunction --payload file://TestEvent.json answer.json")
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["statusCode"] == 200
    assert json.loads(answer["body"]) == {
        "message": "Hello, AWS Lambda!",
        "event_received": {"name": "AWS Lambda"},
    }

    groups = json.loads(shell("aws logs describe-log-streams --log-group-name /aws/lambda/HelloWorldFunction"))
    stream = groups["logStreams"][0]["logStreamName"]
    events = json.loads(
        shell(
            "aws logs get-log-events --log-group-name /aws/lambda/HelloWorldFunction"
            f" --log-stream-name '{stream}' --start-from-head"
        )
    )
    messages = [event["message"] for event in events["events"]]
    kinds = [message.split()[0] for message in messages]
    assert kinds == ["INIT_START", "START", "Event:", "END", "REPORT"]
    assert messages[2] == 'Event: {"name": "AWS Lambda"}\n'

    # The answer comes from the user's own code: other code, another answer.
    (tmp_path / "lambda_function.py").write_text(CODE.replace("Hello,", "Good morning,"))
    shell("python3 -m zipfile -c function.zip lambda_function.py")
    shell("aws lambda update-function-code --function-name HelloWorldFunction --zip-file fileb://function.zip")
    shell("aws lambda invoke --function-name HelloWorldFunction --payload file://TestEvent.json answer.json")
    assert "Good morning, AWS Lambda!" in (tmp_path / "answer.json").read_text()
