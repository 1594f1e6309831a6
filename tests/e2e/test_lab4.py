"""Lab 4 of the seeds ("Lambda with DynamoDB"): a function that creates, reads, updates, deletes and lists users."""

from __future__ import annotations

import json
from pathlib import Path

from daemons import Daemon
from shells import Shell

# Steps 2 to 4, word for word, with the blank lines' blanks.
# ruff: noqa: W293
CODE = """\
import json
import boto3
from decimal import Decimal

dynamodb = boto3.resource('dynamodb')
table = dynamodb.Table('users')

def lambda_handler(event, context):
    operation = event['operation']
    
    if operation == 'create':
        table.put_item(Item=event['payload'])
        return {'statusCode': 200, 'body': 'User created'}
        
    elif operation == 'read':
        response = table.get_item(Key={'userId': event['userId']})
        return {
            'statusCode': 200,
            'body': json.dumps(response.get('Item'), default=str)
        }
        
    elif operation == 'update':
        table.update_item(
            Key={'userId': event['userId']},
            UpdateExpression='SET #n = :name, email = :email',
            ExpressionAttributeNames={'#n': 'name'},
            ExpressionAttributeValues={
                ':name': event['name'],
                ':email': event['email']
            }
        )
        return {'statusCode': 200, 'body': 'User updated'}
        
    elif operation == 'delete':
        table.delete_item(Key={'userId': event['userId']})
        return {'statusCode': 200, 'body': 'User deleted'}
        
    elif operation == 'list':
        response = table.scan()
        return {
            'statusCode': 200,
            'body': json.dumps(response['Items'], default=str)
        }
"""
POLICY = """\
{
  "Version": "2012-10-17",
  "Statement": [{
    "Effect": "Allow",
    "Action": [
      "dynamodb:GetItem",
      "dynamodb:PutItem",
      "dynamodb:UpdateItem",
      "dynamodb:DeleteItem",
      "dynamodb:Scan"
    ],
    "Resource": "arn:aws:dynamodb:region:account-id:table/users"
  }]
}
"""
CREATE = """\
{
  "operation": "create",
  "payload": {
    "userId": "user001",
    "name": "John Doe",
    "email": "john@example.com"
  }
}
"""
READ = """\
{
  "operation": "read",
  "userId": "user001"
}
"""
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}


def test_lab_4(daemon: Daemon, tmp_path: Path) -> None:
    shell = Shell(daemon, tmp_path)

    # Step 1.
    shell(
        "aws dynamodb create-table --table-name users --billing-mode PAY_PER_REQUEST"
        " --attribute-definitions AttributeName=userId,AttributeType=S"
        " --key-schema AttributeName=userId,KeyType=HASH"
    )
    shell("aws dynamodb wait table-exists --table-name users")

    # Steps 2 and 3.
    shell.create_function("users", CODE, "--timeout 30")
    shell.write("trust.json", json.dumps(TRUST))
    shell.write("policy.json", POLICY)
    shell("aws iam create-role --role-name lambda-role --assume-role-policy-document file://trust.json")
    shell("aws iam put-role-policy --role-name lambda-role --policy-name users --policy-document file://policy.json")

    # Step 4, and the operations for which the lab has no event.
    john = {"userId": "user001", "name": "John Doe", "email": "john@example.com"}
    assert shell.invoke("users", CREATE) == {"statusCode": 200, "body": "User created"}
    assert read(shell) == john
    stored = shell.json("""aws dynamodb get-item --table-name users --key '{"userId": {"S": "user001"}}'""")
    assert stored["Item"] == {name: {"S": value} for name, value in john.items()}

    update = {"operation": "update", "userId": "user001", "name": "Jane Doe", "email": "jane@example.com"}
    assert shell.invoke("users", json.dumps(update)) == {"statusCode": 200, "body": "User updated"}
    jane = {"userId": "user001", "name": "Jane Doe", "email": "jane@example.com"}
    assert read(shell) == jane

    other = {"userId": "user002", "name": "Richard Roe", "email": "richard@example.com"}
    shell.invoke("users", json.dumps({"operation": "create", "payload": other}))
    assert listed(shell) == [jane, other]

    delete = {"operation": "delete", "userId": "user001"}
    assert shell.invoke("users", json.dumps(delete)) == {"statusCode": 200, "body": "User deleted"}
    assert read(shell) is None
    assert listed(shell) == [other]


def read(shell: Shell) -> object:
    answer = shell.invoke("users", READ)
    assert answer["statusCode"] == 200
    return json.loads(answer["body"])


def listed(shell: Shell) -> list[dict[str, str]]:
    answer = shell.invoke("users", '{"operation": "list"}')
    assert answer["statusCode"] == 200
    return sorted(json.loads(answer["body"]), key=lambda user: str(user["userId"]))
