"""The pages `/_lambdad/sns/...`: the certificate that verifies the signatures of SNS's messages."""

from __future__ import annotations

from typing import Final

from lambdad.domain.errors import ResourceNotFoundException
from lambdad.ingress.internal import Pages, Text
from lambdad.ingress.messages import Request
from lambdad.ports.signatures import Signer

FOLDER: Final = "sns/"

_CONTENT_TYPE: Final = "application/x-pem-file"


def sns_pages(signer: Signer) -> Pages:
    """The pages; anybody may read them."""

    async def certificate(request: Request) -> Text:
        name = request.path.rpartition("/")[2]
        found = await signer.certificate(name)
        if found is None:
            raise ResourceNotFoundException(f"There is no certificate {name}")
        return Text(_CONTENT_TYPE, found)

    return {("GET", FOLDER): certificate}
