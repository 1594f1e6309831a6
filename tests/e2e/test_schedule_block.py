"""The command line blocks of the seeds that put a function on an EventBridge schedule, run by a shell."""

from __future__ import annotations

import json
from pathlib import Path

from daemons import Daemon
from shells import Shell

# ruff: noqa: E501
# Word for word. Whoever follows them puts their own account where they say <ACCOUNT_ID>.
APP = """\
import json
def handler(event, context):
    return {"statusCode": 200, "body": json.dumps({"ok": True})}
"""
CREATE = r"""
zip function.zip app.py
aws lambda create-function \
  --function-name hello-lambda \
  --runtime python3.11 \
  --handler app.handler \
  --zip-file fileb://function.zip \
  --role arn:aws:iam::<ACCOUNT_ID>:role/lambda-exec-role
"""
INVOKE = """
aws lambda invoke --function-name hello-lambda out.json
cat out.json
"""
SCHEDULE = r"""
aws events put-rule --name nightly-job --schedule-expression "rate(1 day)"
aws lambda add-permission \
  --function-name hello-lambda \
  --statement-id ev-perm \
  --action lambda:InvokeFunction \
  --principal events.amazonaws.com \
  --source-arn arn:aws:events:us-east-1:<ACCOUNT_ID>:rule/nightly-job
aws events put-targets \
  --rule nightly-job \
  --targets "Id"="1","Arn"="$(aws lambda get-function --function-name hello-lambda --query 'Configuration.FunctionArn' --output text)"
"""
ACCOUNT_ID = "000000000000"
RULE_ARN = f"arn:aws:events:us-east-1:{ACCOUNT_ID}:rule/nightly-job"
FUNCTION_ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT_ID}:function:hello-lambda"


def test_the_eventbridge_schedule_block(daemon: Daemon, tmp_path: Path) -> None:
    shell = Shell(daemon, tmp_path)
    shell.write("app.py", APP)
    shell(CREATE.replace("<ACCOUNT_ID>", ACCOUNT_ID))
    assert json.dumps({"statusCode": 200, "body": json.dumps({"ok": True})}) in shell(INVOKE)

    shell(SCHEDULE.replace("<ACCOUNT_ID>", ACCOUNT_ID))

    rule = shell.json("aws events describe-rule --name nightly-job")
    assert (rule["Arn"], rule["ScheduleExpression"], rule["State"]) == (RULE_ARN, "rate(1 day)", "ENABLED")
    targets = shell.json("aws events list-targets-by-rule --rule nightly-job")
    assert targets["Targets"] == [{"Id": "1", "Arn": FUNCTION_ARN}]
    policy = json.loads(shell.json("aws lambda get-policy --function-name hello-lambda")["Policy"])
    (statement,) = policy["Statement"]
    assert statement["Sid"] == "ev-perm"
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Condition"] == {"ArnLike": {"AWS:SourceArn": RULE_ARN}}
