"""The thumbnail pipeline of the seeds: "Example Flow", and the architecture "S3 Thumbnail Pipeline".

An image comes into S3, S3 starts a function, the function makes a thumbnail with Pillow, puts it into S3, and a record
of it into DynamoDB. The function's package is in S3 too, as one with dependencies mostly is.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from daemons import ROLE, Daemon, zip_of
from installed_runtimes import installed, require
from lambdad.domain.runtimes import Language
from queued_events import await_lines, awaited

RUNTIME = "python3.11"
PACKAGES = Path(__file__).parents[2] / ".lambdad" / "packages" / RUNTIME
CODE = """
import io
import urllib.parse

import boto3
from PIL import Image

s3 = boto3.client("s3")
table = boto3.resource("dynamodb").Table("images")


def lambda_handler(event, context):
    for record in event["Records"]:
        bucket = record["s3"]["bucket"]["name"]
        key = urllib.parse.unquote_plus(record["s3"]["object"]["key"])
        image = Image.open(io.BytesIO(s3.get_object(Bucket=bucket, Key=key)["Body"].read()))
        size = image.size
        image.thumbnail((128, 128))
        content = io.BytesIO()
        image.save(content, "PNG")
        thumbnail = "thumbnails/" + key.removeprefix("uploads/")
        s3.put_object(Bucket=bucket, Key=thumbnail, Body=content.getvalue(), ContentType="image/png")
        table.put_item(
            Item={
                "key": key,
                "thumbnail": thumbnail,
                "width": size[0],
                "height": size[1],
                "bytes": record["s3"]["object"]["size"],
            }
        )
        print("Thumbnail saved: " + thumbnail)
"""
BUCKET = "pictures"
FUNCTION_ARN = "arn:aws:lambda:us-east-1:000000000000:function:thumbnails"


@pytest.fixture(scope="module")
def package() -> bytes:
    """The function, and Pillow beside it."""
    require(installed(Language.PYTHON), RUNTIME)
    if not (PACKAGES / "PIL").is_dir():
        pytest.skip("Pillow is missing: make test-servers fetches it")
    files = {str(path.relative_to(PACKAGES)): path.read_bytes() for path in PACKAGES.rglob("*") if path.is_file()}
    return zip_of({"lambda_function.py": CODE, **files})


def png(width: int, height: int) -> bytes:
    """A picture whose left half is red and whose right half is blue."""
    row = b"\0" + b"\xff\0\0" * (width // 2) + b"\0\0\xff" * (width - width // 2)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * height)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def size_of(picture: bytes) -> tuple[int, int]:
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", picture[16:24])
    return width, height


def make_pipeline(daemon: Daemon, package: bytes) -> None:
    s3, aws_lambda = daemon.client("s3"), daemon.client("lambda")
    s3.create_bucket(Bucket=BUCKET)
    s3.create_bucket(Bucket="deployments")
    s3.put_object(Bucket="deployments", Key="thumbnails.zip", Body=package)
    daemon.client("dynamodb").create_table(
        TableName="images",
        KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    created = aws_lambda.create_function(
        FunctionName="thumbnails",
        Runtime=RUNTIME,
        Role=ROLE,
        Handler="lambda_function.lambda_handler",
        Timeout=60,
        MemorySize=512,
        Code={"S3Bucket": "deployments", "S3Key": "thumbnails.zip"},
    )
    assert created["CodeSize"] == len(package)
    aws_lambda.add_permission(
        FunctionName="thumbnails",
        StatementId="s3",
        Action="lambda:InvokeFunction",
        Principal="s3.amazonaws.com",
        SourceArn=f"arn:aws:s3:::{BUCKET}",
        SourceAccount="000000000000",
    )
    # Without the prefix each thumbnail would be an upload of its own, and have a thumbnail made of it.
    only_uploads = {"Key": {"FilterRules": [{"Name": "prefix", "Value": "uploads/"}]}}
    s3.put_bucket_notification_configuration(
        Bucket=BUCKET,
        NotificationConfiguration={
            "LambdaFunctionConfigurations": [
                {"LambdaFunctionArn": FUNCTION_ARN, "Events": ["s3:ObjectCreated:*"], "Filter": only_uploads}
            ]
        },
    )


def test_the_thumbnail_pipeline(daemon: Daemon, package: bytes) -> None:
    make_pipeline(daemon, package)
    s3, images = daemon.client("s3"), daemon.client("dynamodb")

    def record(key: str) -> Any:
        return awaited(lambda: images.get_item(TableName="images", Key={"key": {"S": key}}).get("Item"))

    pictures = {"uploads/wide.png": png(400, 300), "uploads/a tall one \u00fc.png": png(200, 800)}
    for key, picture in pictures.items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=picture)
    for key, size in (("uploads/wide.png", (128, 96)), ("uploads/a tall one \u00fc.png", (32, 128))):
        item = record(key)
        thumbnail = item["thumbnail"]["S"]
        assert thumbnail == key.replace("uploads/", "thumbnails/")
        width, height = size_of(pictures[key])
        assert (item["width"], item["height"]) == ({"N": str(width)}, {"N": str(height)})
        assert item["bytes"] == {"N": str(len(pictures[key]))}
        saved = s3.get_object(Bucket=BUCKET, Key=thumbnail)
        assert size_of(saved["Body"].read()) == size
        assert saved["ContentType"] == "image/png"

    # The log says so, once for each upload and never for a thumbnail.
    lines = await_lines(daemon, "thumbnails", "Thumbnail saved: ", len(pictures))
    assert sorted(lines) == sorted(f"Thumbnail saved: {key.replace('uploads/', 'thumbnails/')}" for key in pictures)
    keys = [found["Key"] for found in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert len(keys) == 2 * len(pictures), json.dumps(keys)
