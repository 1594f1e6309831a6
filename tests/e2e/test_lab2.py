"""Lab 2 of the seeds ("Lambda with S3 Trigger"): a function that is started by an upload, and reads the object."""

from __future__ import annotations

import json
from pathlib import Path

from daemons import Daemon
from queued_events import await_lines
from shells import Shell

# Step 1, word for word, with the blank lines' blanks.
# ruff: noqa: W293
CODE = """\
import json
import boto3

s3 = boto3.client('s3')

def lambda_handler(event, context):
    # Get S3 event details
    bucket = event['Records'][0]['s3']['bucket']['name']
    key = event['Records'][0]['s3']['object']['key']
    
    print(f"File uploaded: s3://{bucket}/{key}")
    
    # Get object metadata
    response = s3.head_object(Bucket=bucket, Key=key)
    size = response['ContentLength']
    
    print(f"File size: {size} bytes")
    
    return {
        'statusCode': 200,
        'body': json.dumps(f'Processed {key}')
    }
"""
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}
FUNCTION_ARN = "arn:aws:lambda:us-east-1:000000000000:function:S3Function"
NOTIFICATION = {
    "LambdaFunctionConfigurations": [{"LambdaFunctionArn": FUNCTION_ARN, "Events": ["s3:ObjectCreated:*"]}],
}


def test_lab_2(daemon: Daemon, tmp_path: Path) -> None:
    shell = Shell(daemon, tmp_path)
    shell("aws s3 mb s3://your-bucket")
    shell.create_function("S3Function", CODE)

    # Step 2: the permission of the function's role.
    shell.write("trust.json", json.dumps(TRUST))
    shell("aws iam create-role --role-name lambda-role --assume-role-policy-document file://trust.json")
    shell(
        "aws iam attach-role-policy --role-name lambda-role --policy-arn arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
    )

    # Step 3, which is these two for who has no console.
    shell(
        "aws lambda add-permission --function-name S3Function --statement-id s3 --action lambda:InvokeFunction"
        " --principal s3.amazonaws.com --source-arn arn:aws:s3:::your-bucket --source-account 000000000000"
    )
    shell.write("notification.json", json.dumps(NOTIFICATION))
    shell(
        "aws s3api put-bucket-notification-configuration --bucket your-bucket"
        " --notification-configuration file://notification.json"
    )
    shown = shell.json("aws s3api get-bucket-notification-configuration --bucket your-bucket")
    (configuration,) = shown["LambdaFunctionConfigurations"]
    assert configuration["LambdaFunctionArn"] == FUNCTION_ARN
    assert configuration["Events"] == ["s3:ObjectCreated:*"]

    # Step 4.
    content = shell.write("file.txt", "What is uploaded.\n").read_bytes()
    shell("aws s3 cp file.txt s3://your-bucket/file.txt")
    assert await_lines(daemon, "S3Function", "File uploaded: ", 1) == ["File uploaded: s3://your-bucket/file.txt"]
    assert await_lines(daemon, "S3Function", "File size: ", 1) == [f"File size: {len(content)} bytes"]

    # And not by what is no upload: a deletion, or an object in another bucket.
    shell("aws s3 rm s3://your-bucket/file.txt; aws s3 mb s3://another; aws s3 cp file.txt s3://another/no.txt")
    shell("aws s3 cp file.txt s3://your-bucket/again.txt")
    assert await_lines(daemon, "S3Function", "File uploaded: ", 2)[1] == "File uploaded: s3://your-bucket/again.txt"
