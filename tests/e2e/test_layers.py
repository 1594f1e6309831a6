"""The "Create Layer" blocks of the seeds, word for word, and a function that uses what is in the layer."""

from __future__ import annotations

import subprocess
from pathlib import Path

from daemons import Daemon
from shells import Shell

# Seed 000. Its directory `python` is the "Example Structure" above it.
CREATE_LAYER = r"""
# Package layer
cd python
pip install requests -t .
cd ..
zip -r layer.zip python/

# Create layer
aws lambda publish-layer-version \
  --layer-name my-dependencies \
  --zip-file fileb://layer.zip \
  --compatible-runtimes python3.11
"""
# Seed 001, whose last word is cut off.
PUBLISH_LAYER = r"""
aws lambda publish-layer-version \
  --layer-name my-layer \
  --zip-file fileb://layer.zip \
  --compatible-runtimes python3.
"""
USES_REQUESTS = """\
import requests

def lambda_handler(event, context):
    return [requests.__version__, requests.__file__]
"""


def test_a_layer_with_requests(daemon: Daemon, tmp_path: Path) -> None:
    shell = Shell(daemon, tmp_path)
    (tmp_path / "python").mkdir()
    assert '"LayerVersionArn": "arn:aws:lambda:us-east-1:000000000000:layer:my-dependencies:1"' in shell(CREATE_LAYER)
    layer = shell.json("aws lambda get-layer-version --layer-name my-dependencies --version-number 1")
    assert layer["CompatibleRuntimes"] == ["python3.11"]
    assert layer["Content"]["CodeSize"] == (tmp_path / "layer.zip").stat().st_size

    shell.create_function("uses-layer", USES_REQUESTS, "--layers", layer["LayerVersionArn"])
    version, file = shell.invoke("uses-layer", "{}")
    (installed,) = (tmp_path / "python").glob("requests-*.dist-info")
    assert installed.name == f"requests-{version}.dist-info"
    assert file.endswith("/python/requests/__init__.py")


def test_a_runtime_whose_name_is_cut_off_is_refused_as_lambda_does(daemon: Daemon, tmp_path: Path) -> None:
    shell = Shell(daemon, tmp_path)
    shell("mkdir python && echo 'x = 1' > python/deps.py && python3 -m zipfile -c layer.zip python/")
    done = subprocess.run(
        ["bash", "-euc", PUBLISH_LAYER], cwd=tmp_path, env=daemon.cli_environ(), capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "(ValidationException) when calling the PublishLayerVersion operation" in done.stderr
    assert "'compatibleRuntimes' failed to satisfy constraint" in done.stderr
    published = shell.json(PUBLISH_LAYER.replace("python3.\n", "python3.11\n"))
    assert published["LayerVersionArn"] == "arn:aws:lambda:us-east-1:000000000000:layer:my-layer:1"
