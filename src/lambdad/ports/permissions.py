"""What those who invoke functions on behalf of a service ask the functions' resource policies."""

from __future__ import annotations

from typing import Protocol

from lambdad.domain.arns import FunctionReference


class Permissions(Protocol):
    """What functions' resource policies say."""

    async def allows_service(
        self, reference: FunctionReference, service: str, source_arn: str, source_account: str
    ) -> bool:
        """Whether a service may invoke a function for a resource of an account; False when there is none."""

    async def check_account(self, reference: FunctionReference, account_id: str, action: str, client: str = "") -> None:
        """Whether an account may invoke a function by an operation. Raises AccessDeniedException."""
