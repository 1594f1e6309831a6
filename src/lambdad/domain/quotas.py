"""The limits of AWS Lambda, as the seeds and AWS's "Lambda quotas" page give them.

https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
Where the service model allows more than the documented quota (memory, timeout, /tmp), the quota here rules.
"""

from __future__ import annotations

from typing import Final

MEMORY_MB_MIN: Final = 128
MEMORY_MB_MAX: Final = 10_240
TIMEOUT_S_MIN: Final = 1
TIMEOUT_S_MAX: Final = 900
TIMEOUT_S_DEFAULT: Final = 3
EPHEMERAL_STORAGE_MB_MIN: Final = 512
EPHEMERAL_STORAGE_MB_MAX: Final = 10_240
ENVIRONMENT_BYTES: Final = 4 * 1024
LAYERS: Final = 5
TAGS: Final = 50
RESOURCE_POLICY_BYTES: Final = 20 * 1024
FUNCTION_NAME_CHARACTERS: Final = 64

ZIPPED_BYTES: Final = 50 * 1024 * 1024
UNZIPPED_BYTES: Final = 250 * 1024 * 1024
CODE_STORAGE_BYTES: Final = 75 * 1024 * 1024 * 1024

REQUEST_BYTES: Final = 6 * 1024 * 1024
# The service lets a response be a little larger than a request: this number is in its own error message.
RESPONSE_BYTES: Final = 6 * 1024 * 1024 + 100
STREAMED_RESPONSE_BYTES: Final = 20 * 1024 * 1024
ASYNC_REQUEST_BYTES: Final = 256 * 1024
"""Of an event that is accepted to be run later, as the seeds have it; the setting `async_payload_kb` changes it."""
ASYNC_RETRY_ATTEMPTS_MAX: Final = 2
ASYNC_EVENT_AGE_S_MAX: Final = 6 * 3600
CLIENT_CONTEXT_BYTES: Final = 3583
LOG_TAIL_BYTES: Final = 4 * 1024

# A request that carries a package: 50 MB in base64, and the fields around it. The service names these numbers.
CREATE_FUNCTION_REQUEST_BYTES: Final = 70_167_211
UPDATE_FUNCTION_CODE_REQUEST_BYTES: Final = 69_905_067
PUBLISH_LAYER_VERSION_REQUEST_BYTES: Final = 69_905_067

CONCURRENT_EXECUTIONS: Final = 1000
UNRESERVED_CONCURRENT_EXECUTIONS_MIN: Final = 100

INIT_TIMEOUT_MS: Final = 10_000
PROVISIONED_INIT_TIMEOUT_S_MIN: Final = 130
"""Or the timeout of the function if that is longer, when it is initialized ahead of any invocation."""
LIST_PAGE: Final = 50
CODE_SIGNING_CONFIGS_PAGE: Final = 10_000
"""https://docs.aws.amazon.com/lambda/latest/api/API_ListCodeSigningConfigs.html"""
