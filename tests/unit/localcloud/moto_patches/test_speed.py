"""moto answers the same as before, and computes once what it computed for every request."""

import boto3
import pytest
from moto import mock_aws
from moto.cloudformation.models import Stack
from moto.core import responses
from moto.core.errors import ErrorLookupFactory
from moto.core.serialize import ResponseSerializer
from moto.core.utils import get_service_model
from moto.iam.responses import IamResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.rds.responses import RDSResponse

from localcloud.moto_patches.patch import apply_patches
from localcloud.moto_patches.speed import Actions, AttributeValues, Backends, ErrorShapes, Templates


@pytest.fixture
def _patched(monkeypatch):
    """Apply the patches, which are undone by setting the attributes to what they were."""
    monkeypatch.setattr(
        ErrorLookupFactory, "_create_error_lut", staticmethod(vars(ErrorLookupFactory)["_create_error_lut"].__func__)
    )
    monkeypatch.setattr(
        DomainDispatcherApplication, "get_backend_for_host", DomainDispatcherApplication.get_backend_for_host
    )
    monkeypatch.setattr(Stack, "parse_template", staticmethod(Stack.parse_template))
    method = "_serialize_structure_member"
    monkeypatch.setattr(ResponseSerializer, method, getattr(ResponseSerializer, method))
    monkeypatch.setattr(responses, "method_names_from_class", responses.method_names_from_class)
    apply_patches([ErrorShapes(), Backends(), Actions(), Templates(), AttributeValues()])


@pytest.mark.usefixtures("_patched")
@pytest.mark.parametrize(
    ("service", "code", "shape"),
    [
        ("rds", "DBInstanceNotFound", "DBInstanceNotFoundFault"),
        ("iam", "NoSuchEntity", "NoSuchEntityException"),
        ("secretsmanager", "ResourceNotFoundException", "ResourceNotFoundException"),
    ],
)
def test_errors_of_each_service_are_found_and_collected_once(service, code, shape):
    first = ErrorLookupFactory().for_service(get_service_model(service))
    second = ErrorLookupFactory().for_service(get_service_model(service))

    assert first.from_code(code).name == shape
    assert first is second


@pytest.mark.usefixtures("_patched")
@pytest.mark.parametrize(
    ("host", "backend"),
    [
        ("rds.eu-central-1.amazonaws.com", "rds"),
        ("iam.eu-central-1.amazonaws.com", "iam"),
        ("dynamodb", "dynamodb"),
        (None, None),
    ],
)
def test_each_host_has_its_backend_twice_in_a_row(host, backend):
    application = DomainDispatcherApplication(lambda _: pytest.fail("no application is asked for"))

    assert [application.get_backend_for_host(host) for _ in range(2)] == [backend, backend]


@pytest.mark.usefixtures("_patched")
def test_each_service_has_its_own_actions():
    of_rds, of_iam = (responses.method_names_from_class(each) for each in (RDSResponse, IamResponse))

    assert "describe_db_instances" in of_rds
    assert "describe_db_instances" not in of_iam
    assert "create_role" in of_iam


@pytest.mark.usefixtures("_patched")
@pytest.mark.parametrize(
    "template",
    [
        pytest.param('{"Resources": {"A": {"Value": {"Ref": "B"}, "Date": "2026-01-01"}}}', id="JSON"),
        pytest.param("Resources: {A: {Value: !Ref B, Date: '2026-01-01'}}", id="YAML"),
    ],
)
def test_templates_are_read_in_both_forms(template):
    assert Stack.parse_template(template) == {"Resources": {"A": {"Value": {"Ref": "B"}, "Date": "2026-01-01"}}}


@pytest.mark.usefixtures("_patched")
@pytest.mark.parametrize(
    "value",
    [
        {"S": ""},
        {"N": "1"},
        {"BOOL": False},
        {"NULL": True},
        {"B": b"bytes"},
        {"SS": ["a", "b"]},
        {"L": [{"S": "a"}, {"M": {}}]},
        {"M": {"S": {"N": "1"}, "plain": {"L": []}}},
    ],
)
def test_values_of_every_type_come_back_as_they_were_put(value):
    with mock_aws():
        dynamodb = boto3.client("dynamodb", region_name="eu-west-1")
        dynamodb.create_table(
            TableName="t",
            KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        dynamodb.put_item(TableName="t", Item={"key": {"S": "k"}, "value": value})

        assert dynamodb.get_item(TableName="t", Key={"key": {"S": "k"}})["Item"]["value"] == value
