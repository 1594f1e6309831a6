"""What the daemon asks of the embedded services beyond their APIs: what no single call tells.

Each inspection takes parameters and gives a document, both as JSON can carry them. moto is imported when it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Inspection = Callable[[Mapping[str, Any]], Any]


def _sns_subscriptions(parameters: Mapping[str, Any]) -> Any:
    """Of the topic `topic_arn`: its attributes and its subscriptions; None when there is no such topic."""
    from lambdad_neighbours import topics

    return topics.described(parameters["topic_arn"])


def _iam_access_key(parameters: Mapping[str, Any]) -> Any:
    """Of the active key `access_key_id`: whose it is and what signs for it; None when there is no such key.

    Its members are those of `lambdad.domain.credentials.Identity`. A key of STS is none any more when it has expired.
    """
    from moto.core.utils import utcnow
    from moto.iam.models import iam_backends
    from moto.sts.models import sts_backends

    access_key_id = parameters["access_key_id"]
    for account_id, partitions in list(iam_backends.items()):
        for backend in list(partitions.values()):
            user = backend.get_user_from_access_key_id(access_key_id)
            if user is not None:
                key = next(key for key in user.access_keys if key.access_key_id == access_key_id)
                return _identity(account_id, user.arn, user.id, key) if key.status == "Active" else None
    for account_id, partitions in list(sts_backends.items()):
        for backend in list(partitions.values()):
            role = backend.get_assumed_role_from_access_key(access_key_id)
            if role is not None:
                found = _identity(account_id, role.arn, role.user_id, role)
                return {**found, "session_token": role.session_token} if role.expiration > utcnow() else None
    return None


def _identity(account_id: str, arn: str, user_id: str, key: Any) -> dict[str, str]:
    return {
        "account_id": account_id,
        "arn": arn,
        "user_id": user_id,
        "secret_access_key": key.secret_access_key,
    }


INSPECTIONS: Final[Mapping[str, Inspection]] = {
    "iam-access-key": _iam_access_key,
    "sns-subscriptions": _sns_subscriptions,
}
"""By the name that `Backends.inspect` takes."""
