"""Lab 5 of the seeds ("Scheduled Lambda"): a function that a rule starts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from daemons import Daemon
from queued_events import await_lines
from shells import Shell

# Step 1, word for word, with the blank lines' blanks.
# ruff: noqa: W293
CODE = """\
import json
from datetime import datetime

def lambda_handler(event, context):
    current_time = datetime.now().strftime('%Y-%m-%d %H:%M:%S')
    print(f"Lambda executed at: {current_time}")
    
    # Your scheduled task here
    # E.g., cleanup old data, send reports, etc.
    
    return {
        'statusCode': 200,
        'body': json.dumps(f'Task completed at {current_time}')
    }
"""
FUNCTION_ARN = "arn:aws:lambda:us-east-1:000000000000:function:ScheduledFunction"
ADD_PERMISSION = (
    "aws lambda add-permission --function-name ScheduledFunction --statement-id {rule} --action lambda:InvokeFunction"
    " --principal events.amazonaws.com --source-arn arn:aws:events:us-east-1:000000000000:rule/{rule}"
)
EXECUTED = re.compile(r"Lambda executed at: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
FIRED_WITHIN_S = 75.0
"""A rule of one minute fires a minute after it was made."""


@pytest.mark.parametrize("expression", ["rate(1 day)", "cron(0 9 * * ? *)"])
def test_lab_5(daemon: Daemon, tmp_path: Path, expression: str) -> None:
    shell = Shell(daemon, tmp_path)
    shell.create_function("ScheduledFunction", CODE)

    # Step 2, which is these three for who has no console.
    made = shell.json(f"aws events put-rule --name DailyTask --schedule-expression '{expression}'")
    assert made["RuleArn"] == "arn:aws:events:us-east-1:000000000000:rule/DailyTask"
    shell(ADD_PERMISSION.format(rule="DailyTask"))
    failed = shell.json(f"aws events put-targets --rule DailyTask --targets Id=1,Arn={FUNCTION_ARN}")
    assert failed["FailedEntryCount"] == 0

    shown = shell.json("aws events describe-rule --name DailyTask")
    assert (shown["ScheduleExpression"], shown["State"]) == (expression, "ENABLED")
    (target,) = shell.json("aws events list-targets-by-rule --rule DailyTask")["Targets"]
    assert target == {"Id": "1", "Arn": FUNCTION_ARN}
    rules = shell.json(f"aws events list-rule-names-by-target --target-arn {FUNCTION_ARN}")
    assert rules["RuleNames"] == ["DailyTask"]


def test_the_function_of_lab_5_fires(daemon: Daemon, tmp_path: Path) -> None:
    """The same with a rule for which nobody has to wait for a day."""
    shell = Shell(daemon, tmp_path)
    shell.create_function("ScheduledFunction", CODE)
    shell(ADD_PERMISSION.format(rule="MinuteTask"))
    shell("aws events put-rule --name MinuteTask --schedule-expression 'rate(1 minute)'")
    shell(f"aws events put-targets --rule MinuteTask --targets Id=1,Arn={FUNCTION_ARN}")
    (line,) = await_lines(daemon, "ScheduledFunction", "Lambda executed at: ", 1, seconds=FIRED_WITHIN_S)
    assert EXECUTED.fullmatch(line)
