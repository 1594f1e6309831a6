"""The AWS protocols: requests parsed and validated, answers and errors rendered, all from botocore's service models."""
