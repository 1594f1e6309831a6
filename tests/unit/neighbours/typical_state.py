"""Typical state in each embedded service: put there by boto3, and looked for by another process.

Run as `typical_state.py <directory> put|look [service ...]`: boto3's requests go to moto in this very process.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"

import typical_data
from typical_data import ACCOUNT, REGION, ROLE, TRUST, client

from lambdad_neighbours.object_files import ObjectValue
from lambdad_neighbours.persistence import Persistence


def put_iam() -> None:
    iam = client("iam")
    iam.create_role(RoleName="service", AssumeRolePolicyDocument=TRUST)
    document = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
    own = iam.create_policy(PolicyName="own", PolicyDocument=document)["Policy"]["Arn"]
    for arn in (own, "arn:aws:iam::aws:policy/AdministratorAccess"):
        iam.attach_role_policy(RoleName="service", PolicyArn=arn)
    iam.create_user(UserName="user")
    iam.create_access_key(UserName="user")
    iam.create_instance_profile(InstanceProfileName="profile")


def look_iam() -> None:
    iam = client("iam")
    attached = {p["PolicyName"] for p in iam.list_attached_role_policies(RoleName="service")["AttachedPolicies"]}
    assert attached == {"own", "AdministratorAccess"}
    arn = "arn:aws:iam::aws:policy/AdministratorAccess"
    assert iam.get_policy(PolicyArn=arn)["Policy"]["AttachmentCount"] == 1
    iam.detach_role_policy(RoleName="service", PolicyArn=arn)
    assert iam.get_policy(PolicyArn=arn)["Policy"]["AttachmentCount"] == 0
    pages = iam.get_paginator("list_policies").paginate(Scope="AWS")
    assert sum(len(page["Policies"]) for page in pages) > 1000
    assert [p["PolicyName"] for p in iam.list_policies(Scope="Local")["Policies"]] == ["own"]
    assert len(iam.list_access_keys(UserName="user")["AccessKeyMetadata"]) == 1


def put_sts() -> None:
    client("sts").assume_role(RoleArn=ROLE, RoleSessionName="session")


def look_sts() -> None:
    from moto.sts.models import sts_backends

    [role] = sts_backends[ACCOUNT]["aws"].assumed_roles
    assert role.session_name == "session"


def put_kms() -> None:
    kms = client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/key", TargetKeyId=key)
    encrypted = kms.encrypt(KeyId=key, Plaintext=b"secret")["CiphertextBlob"]
    kms.create_alias(
        AliasName="alias/sign",
        TargetKeyId=kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="RSA_2048")["KeyMetadata"]["KeyId"],
    )
    kms.create_alias(
        AliasName="alias/curve",
        TargetKeyId=kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["KeyId"],
    )
    signed = kms.sign(KeyId="alias/sign", Message=b"m", SigningAlgorithm="RSASSA_PKCS1_V1_5_SHA_256")["Signature"]
    kms.tag_resource(KeyId=key, Tags=[{"TagKey": "encrypted", "TagValue": encrypted.hex()}])
    kms.tag_resource(KeyId=key, Tags=[{"TagKey": "signed", "TagValue": signed.hex()}])


def look_kms() -> None:
    kms = client("kms")
    key = kms.describe_key(KeyId="alias/key")["KeyMetadata"]["KeyId"]
    tags = {tag["TagKey"]: bytes.fromhex(tag["TagValue"]) for tag in kms.list_resource_tags(KeyId=key)["Tags"]}
    assert kms.decrypt(CiphertextBlob=tags["encrypted"])["Plaintext"] == b"secret"
    algorithm = "RSASSA_PKCS1_V1_5_SHA_256"
    answer = kms.verify(KeyId="alias/sign", Message=b"m", Signature=tags["signed"], SigningAlgorithm=algorithm)
    assert answer["SignatureValid"]
    assert kms.sign(KeyId="alias/curve", Message=b"m", SigningAlgorithm="ECDSA_SHA_256")["Signature"]


def put_secretsmanager() -> None:
    secrets = client("secretsmanager")
    secrets.create_secret(Name="secret", SecretString="one")
    secrets.put_secret_value(SecretId="secret", SecretString="two")


def look_secretsmanager() -> None:
    secrets = client("secretsmanager")
    assert secrets.get_secret_value(SecretId="secret")["SecretString"] == "two"
    assert secrets.get_secret_value(SecretId="secret", VersionStage="AWSPREVIOUS")["SecretString"] == "one"


def put_ssm() -> None:
    ssm = client("ssm")
    for value in ("1", "2"):
        ssm.put_parameter(Name="/app/a", Value=value, Type="String", Overwrite=True)
    assert ssm.get_parameters_by_path(Path="/aws/service/global-infrastructure/regions", MaxResults=1)["Parameters"]
    ssm.create_document(Name="document", DocumentType="Command", Content='{"schemaVersion": "2.2"}')
    ssm.add_tags_to_resource(ResourceType="Parameter", ResourceId="/app/a", Tags=[{"Key": "k", "Value": "v"}])


def look_ssm() -> None:
    ssm = client("ssm")
    found = ssm.get_parameter(Name="/app/a")["Parameter"]
    assert (found["Value"], found["Version"]) == ("2", 2)
    assert len(ssm.get_parameter_history(Name="/app/a")["Parameters"]) == 2
    assert ssm.get_parameters_by_path(Path="/aws/service/global-infrastructure/regions", MaxResults=1)["Parameters"]
    ssm.add_tags_to_resource(ResourceType="Document", ResourceId="document", Tags=[{"Key": "k", "Value": "v"}])


MACHINE = {
    "StartAt": "A",
    "States": {"A": {"Type": "Pass", "Result": {"done": True}, "End": True}},
}
WAITING = {"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 3600, "End": True}}}


def put_stepfunctions() -> None:
    steps = client("stepfunctions")
    for name, definition in (("machine", MACHINE), ("waiting", WAITING)):
        arn = steps.create_state_machine(name=name, definition=json.dumps(definition), roleArn=ROLE)["stateMachineArn"]
        execution = steps.start_execution(stateMachineArn=arn, name=f"of-{name}", input="{}")["executionArn"]
        wanted = "SUCCEEDED" if name == "machine" else "RUNNING"
        give_up = time.monotonic() + 10
        while steps.describe_execution(executionArn=execution)["status"] != wanted and time.monotonic() < give_up:
            time.sleep(0.01)


def look_stepfunctions() -> None:
    steps = client("stepfunctions")
    arns = {machine["name"]: machine["stateMachineArn"] for machine in steps.list_state_machines()["stateMachines"]}
    [ended] = steps.list_executions(stateMachineArn=arns["machine"])["executions"]
    described = steps.describe_execution(executionArn=ended["executionArn"])
    assert (described["status"], json.loads(described["output"])) == ("SUCCEEDED", {"done": True})
    kinds = [e["type"] for e in steps.get_execution_history(executionArn=ended["executionArn"])["events"]]
    assert (kinds[0], kinds[-1]) == ("ExecutionStarted", "ExecutionSucceeded")
    [ran] = steps.list_executions(stateMachineArn=arns["waiting"])["executions"]
    described = steps.describe_execution(executionArn=ran["executionArn"])
    assert described["status"] == "ABORTED"
    assert "ended" in described["cause"]
    assert steps.start_execution(stateMachineArn=arns["machine"], name="again", input="{}")["executionArn"]


def put_cognitoidp() -> None:
    cognito = client("cognito-idp")
    pool = cognito.create_user_pool(PoolName="pool")["UserPool"]["Id"]
    flows = ["ALLOW_ADMIN_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
    app = cognito.create_user_pool_client(UserPoolId=pool, ClientName="app", ExplicitAuthFlows=flows)
    cognito.admin_create_user(UserPoolId=pool, Username="user")
    cognito.admin_set_user_password(UserPoolId=pool, Username="user", Password="Passw0rd!", Permanent=True)
    cognito.admin_initiate_auth(
        UserPoolId=pool,
        ClientId=app["UserPoolClient"]["ClientId"],
        AuthFlow="ADMIN_USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": "user", "PASSWORD": "Passw0rd!"},
    )


def look_cognitoidp() -> None:
    cognito = client("cognito-idp")
    [pool] = cognito.list_user_pools(MaxResults=10)["UserPools"]
    [app] = cognito.list_user_pool_clients(UserPoolId=pool["Id"], MaxResults=10)["UserPoolClients"]
    answer = cognito.admin_initiate_auth(
        UserPoolId=pool["Id"],
        ClientId=app["ClientId"],
        AuthFlow="ADMIN_USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": "user", "PASSWORD": "Passw0rd!"},
    )
    assert answer["AuthenticationResult"]["IdToken"]


def put_cognitoidentity() -> None:
    identity = client("cognito-identity")
    pool = identity.create_identity_pool(IdentityPoolName="pool", AllowUnauthenticatedIdentities=True)
    identity.get_id(AccountId=ACCOUNT, IdentityPoolId=pool["IdentityPoolId"])


def look_cognitoidentity() -> None:
    identity = client("cognito-identity")
    [pool] = identity.list_identity_pools(MaxResults=5)["IdentityPools"]
    assert identity.list_identities(IdentityPoolId=pool["IdentityPoolId"], MaxResults=5)["Identities"]


def put_apigateway() -> None:
    api = client("apigateway")
    made = api.create_rest_api(name="api")
    [root] = api.get_resources(restApiId=made["id"])["items"]
    below = api.create_resource(restApiId=made["id"], parentId=root["id"], pathPart="{id}")
    named = {"restApiId": made["id"], "resourceId": below["id"], "httpMethod": "GET"}
    api.put_method(**named, authorizationType="NONE")
    api.put_integration(**named, type="MOCK")
    api.create_deployment(restApiId=made["id"], stageName="prod")


def look_apigateway() -> None:
    api = client("apigateway")
    [made] = api.get_rest_apis()["items"]
    below = next(r for r in api.get_resources(restApiId=made["id"])["items"] if r["path"] == "/{id}")
    assert below["resourceMethods"]["GET"]["methodIntegration"]["type"] == "MOCK"
    assert [stage["stageName"] for stage in api.get_stages(restApiId=made["id"])["item"]] == ["prod"]


def put_apigatewayv2() -> None:
    api = client("apigatewayv2")
    made = api.create_api(Name="http", ProtocolType="HTTP")["ApiId"]
    integration = api.create_integration(ApiId=made, IntegrationType="HTTP_PROXY", IntegrationUri="http://localhost")
    api.create_route(ApiId=made, RouteKey="GET /a", Target=f"integrations/{integration['IntegrationId']}")
    api.create_stage(ApiId=made, StageName="$default")


def look_apigatewayv2() -> None:
    api = client("apigatewayv2")
    [made] = api.get_apis()["Items"]
    assert [route["RouteKey"] for route in api.get_routes(ApiId=made["ApiId"])["Items"]] == ["GET /a"]
    assert [stage["StageName"] for stage in api.get_stages(ApiId=made["ApiId"])["Items"]] == ["$default"]


def put_ec2() -> None:
    ec2 = client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    ec2.create_tags(Resources=[vpc], Tags=[{"Key": "Name", "Value": "mine"}])
    ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24", AvailabilityZone="us-east-1a")
    ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.2.0/24", AvailabilityZone="us-east-1b")
    group = ec2.create_security_group(GroupName="group", Description="d", VpcId=vpc)["GroupId"]
    ec2.authorize_security_group_ingress(
        GroupId=group,
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}],
    )
    ec2.create_key_pair(KeyName="pair")


def look_ec2() -> None:
    ec2 = client("ec2")
    vpcs = ec2.describe_vpcs()["Vpcs"]
    assert sorted(vpc["IsDefault"] for vpc in vpcs) == [False, True]
    own = next(vpc for vpc in vpcs if not vpc["IsDefault"])
    assert own["Tags"] == [{"Key": "Name", "Value": "mine"}]
    assert len(ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [own["VpcId"]]}])["Subnets"]) == 2
    groups = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["group"]}])["SecurityGroups"]
    assert groups[0]["IpPermissions"][0]["FromPort"] == 80
    assert ec2.describe_images(Owners=["amazon"])["Images"]
    ec2.create_subnet(VpcId=own["VpcId"], CidrBlock="10.0.3.0/24")


def put_elbv2() -> None:
    ec2, elb = client("ec2"), client("elbv2")
    vpc = next(v for v in ec2.describe_vpcs()["Vpcs"] if v["IsDefault"])["VpcId"]
    subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"][:2]
    balancer = elb.create_load_balancer(Name="balancer", Subnets=[s["SubnetId"] for s in subnets])["LoadBalancers"][0]
    group = elb.create_target_group(Name="targets", TargetType="lambda")["TargetGroups"][0]["TargetGroupArn"]
    elb.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"],
        Protocol="HTTP",
        Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": group}],
    )


def look_elbv2() -> None:
    from moto.ec2.models import ec2_backends
    from moto.elbv2.models import elbv2_backends

    elb = client("elbv2")
    [balancer] = elb.describe_load_balancers()["LoadBalancers"]
    [listener] = elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    assert listener["DefaultActions"][0]["TargetGroupArn"].split("/")[1] == "targets"
    # A model of another service is the one that this service has, not a copy of it.
    [model] = elbv2_backends[ACCOUNT][REGION].load_balancers.values()
    subnet = model.subnets[0]
    assert ec2_backends[ACCOUNT][REGION].subnets[subnet.availability_zone][subnet.id] is subnet


TEMPLATE = {
    "Resources": {
        "Bucket": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "of-stack"}},
        "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "of-stack"}},
        "Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "of-stack"}},
        "Role": {"Type": "AWS::IAM::Role", "Properties": {"RoleName": "of-stack", "AssumeRolePolicyDocument": TRUST}},
        "Parameter": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {"Name": "of-stack", "Type": "String", "Value": "v"},
        },
    },
    "Outputs": {"Topic": {"Value": {"Ref": "Topic"}}},
}


def put_cloudformation() -> None:
    client("cloudformation").create_stack(StackName="stack", TemplateBody=json.dumps(TEMPLATE))


def look_cloudformation() -> None:
    from moto.cloudformation.models import cloudformation_backends
    from moto.s3.models import s3_backends

    cloudformation, sns = client("cloudformation"), client("sns")
    [stack] = cloudformation.describe_stacks(StackName="stack")["Stacks"]
    assert stack["Outputs"][0]["OutputValue"].endswith(":of-stack")
    [model] = cloudformation_backends[ACCOUNT][REGION].stacks.values()
    assert model.resource_map["Bucket"] is s3_backends[ACCOUNT]["aws"].buckets["of-stack"]
    assert client("ssm").get_parameter(Name="of-stack")["Parameter"]["Value"] == "v"
    cloudformation.delete_stack(StackName="stack")
    assert not [topic for topic in sns.list_topics()["Topics"] if topic["TopicArn"].endswith(":of-stack")]
    assert "of-stack" not in [bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]]
    assert "of-stack" not in [role["RoleName"] for role in client("iam").list_roles()["Roles"]]


MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"


def put_ecr() -> None:
    ecr = client("ecr")
    ecr.create_repository(repositoryName="repository")
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"digest": "sha256:" + "0" * 64},
        "layers": [],
    }
    ecr.put_image(repositoryName="repository", imageManifest=json.dumps(manifest), imageTag="latest")


def look_ecr() -> None:
    [image] = client("ecr").list_images(repositoryName="repository")["imageIds"]
    assert image["imageTag"] == "latest"


def put_cloudtrail() -> None:
    client("s3").create_bucket(Bucket="trails")
    trail = client("cloudtrail")
    trail.create_trail(Name="trail", S3BucketName="trails")
    trail.start_logging(Name="trail")


def look_cloudtrail() -> None:
    assert client("cloudtrail").get_trail_status(Name="trail")["IsLogging"]


def put_ses() -> None:
    ses = client("ses")
    ses.verify_email_identity(EmailAddress="a@example.com")
    message = {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "t"}}}
    ses.send_email(Source="a@example.com", Destination={"ToAddresses": ["b@example.com"]}, Message=message)


def look_ses() -> None:
    from moto.ses.models import ses_backends

    assert client("ses").list_identities()["Identities"] == ["a@example.com"]
    assert [message.subject for message in ses_backends[ACCOUNT][REGION].sent_messages] == ["s"]


def put_sesv2() -> None:
    client("sesv2").create_contact_list(ContactListName="contacts")


def look_sesv2() -> None:
    assert client("sesv2").get_contact_list(ContactListName="contacts")["ContactListName"] == "contacts"


def put_iot() -> None:
    iot = client("iot")
    iot.create_thing(thingName="thing")
    iot.create_keys_and_certificate(setAsActive=True)
    iot.create_topic_rule(ruleName="rule", topicRulePayload={"sql": "SELECT * FROM 'a'", "actions": []})


def look_iot() -> None:
    iot = client("iot")
    assert iot.describe_thing(thingName="thing")["thingName"] == "thing"
    assert len(iot.list_certificates()["certificates"]) == 1
    assert iot.get_topic_rule(ruleName="rule")["rule"]["sql"] == "SELECT * FROM 'a'"


def put_iotdata() -> None:
    data = client("iot-data")
    data.update_thing_shadow(thingName="thing", payload=json.dumps({"state": {"reported": {"t": 1}}}))
    data.publish(topic="a", qos=1, payload=b"p")


def look_iotdata() -> None:
    shadow = json.loads(client("iot-data").get_thing_shadow(thingName="thing")["payload"].read())
    assert shadow["state"]["reported"] == {"t": 1}


def put_firehose() -> None:
    destination = {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::trails"}
    client("firehose").create_delivery_stream(
        DeliveryStreamName="delivery", ExtendedS3DestinationConfiguration=destination
    )


def look_firehose() -> None:
    described = client("firehose").describe_delivery_stream(DeliveryStreamName="delivery")["DeliveryStreamDescription"]
    assert described["DeliveryStreamStatus"] == "ACTIVE"


def put_codecommit() -> None:
    client("codecommit").create_repository(repositoryName="code")


def look_codecommit() -> None:
    assert client("codecommit").get_repository(repositoryName="code")["repositoryMetadata"]["repositoryName"] == "code"


def put_efs() -> None:
    system = client("efs").create_file_system(CreationToken="token")["FileSystemId"]
    client("efs").create_access_point(ClientToken="point", FileSystemId=system)


def look_efs() -> None:
    efs = client("efs")
    [system] = efs.describe_file_systems()["FileSystems"]
    [point] = efs.describe_access_points()["AccessPoints"]
    assert point["FileSystemId"] == system["FileSystemId"]


def put_resourcegroupstaggingapi() -> None:
    client("resourcegroupstaggingapi").get_resources()


def look_resourcegroupstaggingapi() -> None:
    found = client("resourcegroupstaggingapi").get_resources(TagFilters=[{"Key": "k", "Values": ["v"]}])
    assert isinstance(found["ResourceTagMappingList"], list)


def _services() -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    here = {**vars(typical_data), **globals()}
    return {name[4:]: (here[name], here[f"look_{name[4:]}"]) for name in here if name.startswith("put_")}


SERVICES = _services()


def main(directory: str, act: str, *wanted: str) -> None:
    """Put or look; for each service a line with its name and how long writing it took in milliseconds."""
    from moto import mock_aws
    from moto.core import botocore_stubber

    persistence = Persistence(Path(directory))
    persistence.install()
    # boto3 gets what moto answers without a server between them that would send a value piece by piece.
    raw = botocore_stubber.MockRawResponse
    botocore_stubber.MockRawResponse = lambda body: raw(bytes(body) if isinstance(body, ObjectValue) else body)
    mock_aws(config={"stepfunctions": {"execute_state_machine": True}}).start(reset=False)
    for name in wanted or SERVICES:
        SERVICES[name][act == "look"]()
        if act == "put":
            began = time.perf_counter()
            persistence.changed(name)
            print(name, round((time.perf_counter() - began) * 1000, 2), flush=True)
    if act == "put":
        # A process that is killed: only what `changed` has written and the checkpoints stay.
        give_up = time.monotonic() + 30
        while any(state["dirty"] for state in persistence.status().values()) and time.monotonic() < give_up:
            persistence.checkpoint_if_due()
            time.sleep(0.01)
        assert not [name for name, state in persistence.status().items() if state["dirty"]]
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
