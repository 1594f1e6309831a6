"""Where moto does what AWS does not, put right: each function changes one package of moto's that has been imported."""

from __future__ import annotations

import json
import logging
import re
import types
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from xml.etree import ElementTree

from lambdad_neighbours import source_corrections
from lambdad_neighbours.catalogue import SERVICES

_CDK_METADATA: Final = "AWS::CDK::Metadata"
"""A resource of every template of the CDK's; it makes nothing, on AWS neither."""
_CUSTOM_RESOURCE: Final = "AWS::CloudFormation::CustomResource"
_PSEUDO_PARAMETER: Final = "AWS::"
_BUCKET_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_NO_BUCKET_NAME: Final = re.compile(r"\.\.|^\d+\.\d+\.\d+\.\d+$|^xn--|^sthree-|-s3alias$|--ol-s3$")
_KEY_BYTES: Final = 1024


def correct(package: str) -> None:
    """Change what is wrong in a package of moto's."""
    correction = _CORRECTIONS.get(package)
    if correction is not None:
        correction()


def _s3() -> None:
    """What S3 refuses, and how it reads the parts of an upload.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html and
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
    """
    from moto.s3 import exceptions
    from moto.s3.models import S3Backend
    from moto.s3.responses import S3Response

    def known_upload(backend: Any, bucket_name: str, upload_id: str, *_: Any, **__: Any) -> None:
        if upload_id not in backend.get_bucket(bucket_name).multiparts:
            raise exceptions.NoSuchUpload(upload_id=upload_id)

    def proper_name(backend: Any, bucket_name: str, *_: Any, **__: Any) -> None:
        if not _BUCKET_NAME.fullmatch(bucket_name) or _NO_BUCKET_NAME.search(bucket_name):
            raise exceptions.InvalidBucketName

    def short_key(backend: Any, bucket_name: str, key_name: str, *_: Any, **__: Any) -> None:
        if len(key_name.encode(errors="surrogateescape")) > _KEY_BYTES:
            raise exceptions.S3ClientError("KeyTooLongError", "Your key is too long")

    def policy_in_json(backend: Any, bucket_name: str, policy: bytes) -> None:
        try:
            is_object = isinstance(json.loads(policy), dict)
        except ValueError:
            is_object = False
        if not is_object:
            message = "Policies must be valid JSON and the first byte must be '{'"
            raise exceptions.S3ClientError("MalformedPolicy", message)

    def known_token(backend: Any, *_: Any, continuation_token: str | None = None, **__: Any) -> None:
        if continuation_token is not None and continuation_token not in backend._pagination_tokens:
            raise exceptions.InvalidContinuationToken

    checks: dict[str, Callable[..., None]] = {
        "complete_multipart_upload": known_upload,
        "create_bucket": proper_name,
        "list_objects_v2": known_token,
        "put_bucket_policy": policy_in_json,
        "put_object": short_key,
        "upload_part": known_upload,
        "upload_part_copy": known_upload,
    }
    for name, check in checks.items():
        setattr(S3Backend, name, _checked(getattr(S3Backend, name), check))
    S3Response._complete_multipart_body = lambda response, body: _parts_in_order(body)
    post = S3Response._bucket_response_post

    def post_with_name(response: Any, *arguments: Any) -> Any:
        if "key" in response.querystring:  # a file that has no name has an empty one
            response.querystring["key"] = [response.querystring["key"][0].replace("${filename}", "")]
        return post(response, *arguments)

    S3Response._bucket_response_post = post_with_name


def _kms() -> None:
    """A key that is disabled, or waits for its deletion, neither encrypts nor decrypts; and ARNs name keys everywhere.

    https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html
    """
    from moto.core.exceptions import JsonRESTError
    from moto.kms.models import KmsBackend

    def usable(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(backend: Any, *arguments: Any, **named: Any) -> Any:
            result, arn = method(backend, *arguments, **named)
            state = backend.keys[arn.rpartition("/")[2]].key_state
            if state == "Disabled":
                raise JsonRESTError("DisabledException", f"{arn} is disabled.")
            if state != "Enabled":
                raise JsonRESTError("KMSInvalidStateException", f"{arn} is pending deletion.")
            return result, arn

        return call

    KmsBackend.encrypt = usable(KmsBackend.encrypt)
    KmsBackend.decrypt = usable(KmsBackend.decrypt)

    def by_id(method: Callable[..., Any]) -> Callable[..., Any]:
        return lambda backend, key_id, *arguments: method(backend, backend.get_key_id(key_id), *arguments)

    for name in ("cancel_key_deletion", "disable_key", "enable_key", "schedule_key_deletion"):
        setattr(KmsBackend, name, by_id(getattr(KmsBackend, name)))


def _checked(method: Callable[..., Any], check: Callable[..., None]) -> Callable[..., Any]:
    """A method whose arguments are looked at first."""

    def call(*arguments: Any, **named: Any) -> Any:
        check(*arguments, **named)
        return method(*arguments, **named)

    return call


def _parts_in_order(body: bytes) -> Iterator[tuple[int, str]]:
    """Number and ETag of each part that is named. Raises moto's MalformedXML and InvalidPartOrder."""
    from moto.s3.exceptions import InvalidPartOrder, MalformedXML

    last = 0
    try:
        parts = [each for each in ElementTree.fromstring(body) if each.tag.rpartition("}")[2] == "Part"]
        named = [(int(part.findtext("{*}PartNumber") or ""), part.findtext("{*}ETag") or "") for part in parts]
    except (ElementTree.ParseError, ValueError):
        raise MalformedXML from None
    for number, etag in named:
        if number <= last:
            raise InvalidPartOrder
        last = number
        yield number, etag


def _step_functions() -> None:
    """An execution without a name has one of its own; what a state fails with is its history's, not the log's."""
    from moto.stepfunctions.parser import api
    from moto.stepfunctions.parser.asl.jsonata import jsonata
    from moto.stepfunctions.parser.models import StepFunctionsParserBackend

    start = StepFunctionsParserBackend.start_execution

    def start_named(backend: Any, state_machine_arn: str, name: str | None = None, *others: Any, **named: Any) -> Any:
        return start(backend, state_machine_arn, name or str(uuid.uuid4()), *others, **named)

    def refuse(expression: str) -> Any:
        raise jsonata.JSONataException("NotImplemented", "JSONata is not implemented here: use JSONPath.")

    for error in api.ServiceException.__subclasses__():
        if error.__module__ == api.__name__:
            error.TYPE, error.STATUS = error.code, error.status_code
    StepFunctionsParserBackend.start_execution = start_named
    jsonata._eval_jsonata = refuse
    logging.getLogger("moto.stepfunctions").setLevel(logging.CRITICAL)


def _secrets_manager() -> None:
    """A rotation is under way while a version is pending that is not the current one; moto has it the other way round.

    https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_RotateSecret.html
    """
    from moto.secretsmanager.exceptions import InvalidRequestException
    from moto.secretsmanager.models import SecretsManagerBackend

    rotate = SecretsManagerBackend.rotate_secret

    def rotate_again(backend: Any, secret_id: str, *others: Any, **named: Any) -> Any:
        secret = backend.secrets.get(secret_id)
        for version in secret.versions.values() if secret is not None else ():
            stages = version["version_stages"]
            if "AWSPENDING" in stages and "AWSCURRENT" not in stages:
                raise InvalidRequestException("A previous rotation isn't complete. That rotation will be reattempted.")
            version["version_stages"] = [stage for stage in stages if stage != "AWSPENDING"]
        return rotate(backend, secret_id, *others, **named)

    SecretsManagerBackend.rotate_secret = rotate_again


def _cloudformation() -> None:
    """A template is data, and names only what can be made: moto would run Python that is in it, and skip the rest."""
    from moto.cloudformation import models, parsing, responses
    from moto.cloudformation.exceptions import ValidationError

    yaml = models.yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc, name-defined]
        def compose_node(self, parent: Any, index: Any) -> Any:
            # A few lines of aliases of aliases name more than could ever be looked at; AWS has none either:
            # https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/template-formats.html
            if self.check_event(yaml.AliasEvent):
                raise ValidationError(
                    message="Template error: YAML aliases are not allowed in CloudFormation templates"
                )
            return super().compose_node(parent, index)

    Loader.add_multi_constructor("", models.yaml_tag_constructor)
    models.yaml = responses.yaml = types.SimpleNamespace(
        load=yaml.load, Loader=Loader, add_multi_constructor=lambda *_: None
    )
    class_of = parsing.resource_class_from_type

    def class_of_type(resource_type: str) -> Any:
        return parsing.CustomModel if resource_type == _CUSTOM_RESOURCE else class_of(resource_type)

    answered = responses.CloudFormationResponse.process_cfn_response

    def note_failure(response: Any) -> Any:
        if response._get_param("Status") == "FAILED":
            stack = response.cloudformation_backend.get_stack(response._get_param("StackId"))
            reason = f"Received response status [FAILED] from custom resource. Message returned: {_reason(response)}"
            stack.status = "CREATE_FAILED"
            stack._add_stack_event("CREATE_FAILED", resource_status_reason=reason)
        return answered(response)

    responses.CloudFormationResponse.process_cfn_response = note_failure
    parsing.resource_class_from_type = class_of_type
    models.Stack.parse_template = staticmethod(lambda template: _parsed(template, yaml, Loader))


def _reason(response: Any) -> str:
    return str(response._get_param("Reason") or "")


def _parsed(template: str, yaml: Any, loader: type) -> dict[str, Any]:
    """A template. Raises moto's ValidationError, as CloudFormation words it."""
    from moto.cloudformation.exceptions import ValidationError

    try:
        parsed = yaml.load(template, Loader=loader)
    except (yaml.YAMLError, RecursionError):
        try:
            parsed = json.loads(template)
        except (ValueError, RecursionError) as error:
            raise ValidationError(message=f"Template format error: JSON not well-formed. ({error})") from None
    if not isinstance(parsed, dict):
        raise ValidationError(message="Template format error: unsupported structure.")
    resources = parsed.get("Resources")
    if not isinstance(resources, dict) or not resources:
        raise ValidationError(message="Template format error: At least one Resources member must be defined.")
    for name, resource in resources.items():
        if not isinstance(resource, dict) or not isinstance(resource.get("Type"), str):
            raise ValidationError(
                message=f"Template format error: [/Resources/{name}] Every Resource must have a Type."
            )
    unknown = {each for each in {resource["Type"] for resource in resources.values()} if not _is_made(each)}
    if unknown:
        raise ValidationError(
            message=f"Template format error: Unrecognized resource types: [{', '.join(sorted(unknown))}]. "
            "The CloudFormation that is embedded here does not make them."
        )
    known = {*resources, *(parsed.get("Parameters") or ())}
    missing = {name for name in _references(resources) if name not in known and not name.startswith(_PSEUDO_PARAMETER)}
    if missing:
        raise ValidationError(
            message=f"Template format error: Unresolved resource dependencies [{', '.join(sorted(missing))}] "
            "in the Resources block of the template"
        )
    return parsed


def _is_made(resource_type: str) -> bool:
    """Whether a stack makes resources of this type, by a service that is here."""
    from moto.cloudformation import parsing

    if resource_type.startswith("Custom::") or resource_type in (_CDK_METADATA, _CUSTOM_RESOURCE):
        return True
    model = parsing.get_model_map().get(resource_type)
    packages = {service.package for service in SERVICES.values()}
    return model is not None and model.__module__.split(".")[1] in packages


def _references(part: Any) -> Iterator[str]:
    """The names that a part of a template refers to by `Ref` and `Fn::GetAtt`."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "Ref" and len(part) == 1 and isinstance(value, str):
                yield value
            elif name == "Fn::GetAtt" and isinstance(value, list) and value and isinstance(value[0], str):
                yield value[0]
            else:
                yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


_CORRECTIONS: Final[Mapping[str, Callable[[], None]]] = {
    "cloudformation": _cloudformation,
    "dynamodb": source_corrections.correct_tables,
    "dynamodbstreams": source_corrections.correct_table_streams,
    "kinesis": source_corrections.correct_kinesis,
    "kms": _kms,
    "s3": _s3,
    "secretsmanager": _secrets_manager,
    "sqs": source_corrections.correct_sqs,
    "stepfunctions": _step_functions,
}
