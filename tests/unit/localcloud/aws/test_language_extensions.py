"""`Fn::ForEach` is written out as CloudFormation does it; what CloudFormation refuses is refused here too."""

from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from localcloud.aws.language_extensions import UnsupportedLoop, expand_loops

TRANSFORM = "[AWS::LanguageExtensions, AWS::Serverless-2016-10-31]"


def expanded(resources: str, rest: str = "", transform: str = TRANSFORM) -> dict[str, Any]:
    lines = "".join(f"  {line}\n" for line in resources.strip("\n").splitlines())
    return expand_loops(yaml_parse(f"Transform: {transform}\n{rest}Resources:\n{lines}"))


def resources_of(resources: str, rest: str = "") -> dict[str, Any]:
    found: dict[str, Any] = expanded(resources, rest)["Resources"]
    return found


def entry(properties: str) -> Any:
    """Return the properties of the one resource of a loop over A, with B as its second identifier's value."""
    text = f"""
Fn::ForEach::Outer:
  - X
  - [A]
  - Fn::ForEach::Inner:
      - Y
      - [B]
      - Thing${{X}}${{Y}}: {{Type: T, Properties: {properties}}}
"""
    return resources_of(text)["ThingAB"]["Properties"]


def test_a_loop_makes_a_resource_of_each_value():
    made = resources_of("""
Before: {Type: T}
Fn::ForEach::Logs:
  - Function
  - [Vend, Audit]
  - ${Function}Log: {Type: L, Properties: {Name: !Ref Function}}
    ${Function}Alarm: {Type: A, Condition: C}
""")
    assert made == {
        "Before": {"Type": "T"},
        "VendLog": {"Type": "L", "Properties": {"Name": "Vend"}},
        "VendAlarm": {"Type": "A", "Condition": "C"},
        "AuditLog": {"Type": "L", "Properties": {"Name": "Audit"}},
        "AuditAlarm": {"Type": "A", "Condition": "C"},
    }


def test_a_loop_in_a_loop_makes_a_resource_of_each_pair():
    made = resources_of("""
Fn::ForEach::Functions:
  - Function
  - [Vend, Audit]
  - Fn::ForEach::Metrics:
      - Metric
      - [Errors, Throttles]
      - ${Function}${Metric}Alarm: {Type: A}
""")
    assert list(made) == ["VendErrorsAlarm", "VendThrottlesAlarm", "AuditErrorsAlarm", "AuditThrottlesAlarm"]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("{P: !Ref X}", "A"),
        ("{P: !Ref Other}", {"Ref": "Other"}),
        ("{P: !Ref AWS::StackName}", {"Ref": "AWS::StackName"}),
        ("{P: !Sub '${X} and ${Y}'}", "A and B"),
        ("{P: !Sub '${X} in ${AWS::Region}'}", {"Fn::Sub": "A in ${AWS::Region}"}),
        ("{P: {Ref: !Sub '${X}Function'}}", {"Ref": "AFunction"}),
        ("{P: !GetAtt [!Sub '${X}Role', Arn]}", {"Fn::GetAtt": ["ARole", "Arn"]}),
        ("{P: !Sub ['${Arn}:*', {Arn: !GetAtt [!Sub '${X}F', Arn]}]}", {"Fn::Sub": "${AF.Arn}:*"}),
        ("{P: !Sub ['${Id}/b', {Id: {Ref: !Sub '${X}F'}}]}", {"Fn::Sub": "${AF}/b"}),
        ("{P: !Sub ['${V} of ${X}', {V: !Ref Y}]}", "B of A"),
        ("{P: !Sub ['${V}', {V: !If [C, a, b]}]}", {"Fn::Sub": ["${V}", {"V": {"Fn::If": ["C", "a", "b"]}}]}),
        ("{P: [1, true, {Q: !Ref Y}]}", [1, True, {"Q": "B"}]),
    ],
)
def test_identifiers_are_replaced_where_cloudformation_replaces_them(written, value):
    assert entry(written) == {"P": value}


def test_values_of_mappings_are_looked_up_and_mappings_of_loops_alone_are_left_out():
    template = expanded(
        """
Fn::ForEach::Alarms:
  - F
  - [Vend]
  - ${F}Alarm:
      Type: A
      Properties: {Threshold: !FindInMap [Limits, !Ref F, Errors], Url: !FindInMap [Urls, a, !Ref P]}
""",
        "Mappings: {Limits: {Vend: {Errors: 3}}, Urls: {a: {b: c}}}\n",
    )
    assert template["Resources"]["VendAlarm"]["Properties"] == {
        "Threshold": 3,
        "Url": {"Fn::FindInMap": ["Urls", "a", {"Ref": "P"}]},
    }
    assert template["Mappings"] == {"Urls": {"a": {"b": "c"}}}
    assert template["Transform"] == "AWS::Serverless-2016-10-31"


def test_a_template_without_the_transform_stays_as_it_is():
    template = yaml_parse("Transform: AWS::Serverless-2016-10-31\nResources: {A: {Type: T, Properties: {P: '${X}'}}}")
    assert expand_loops(template) == template


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ("Fn::ForEach::L: [X, [A]]", "Fn::ForEach::L: isn't a list of an identifier, a collection and a fragment"),
        ("Fn::ForEach::L: [X, !Ref Names, {'T${X}': {Type: T}}]", "the collection isn't a literal list of strings"),
        ("Fn::ForEach::L: [X, [], {'T${X}': {Type: T}}]", "the collection isn't a literal list of strings"),
        ("Fn::ForEach::L: [X-Y, [A], {'T${X-Y}': {Type: T}}]", "the identifier X-Y isn't alphanumeric"),
        ("Fn::ForEach::L: [P, [A], {'T${P}': {Type: T}}]", "the identifier P isn't alphanumeric, or names something"),
        ("Fn::ForEach::L: [X, [A, B], {T: {Type: T}}]", "Fn::ForEach::L: the key T has no identifier"),
        ("Fn::ForEach::L: [X, [A, A], {'T${X}': {Type: T}}]", "Fn::ForEach::L: TA comes out twice"),
        ("TA: {Type: T}\nFn::ForEach::L: [X, [A], {'T${X}': {Type: T}}]", "Fn::ForEach::L: TA is there already"),
        (
            "Fn::ForEach::L: [X, [A], {'T${X}': {Condition: C, Type: T}}]",
            r"Fn::ForEach::L, T\${X}: Condition is the first key, which CloudFormation refuses; put Type first",
        ),
        (
            "Fn::ForEach::L: [X, [A], {'T${X}': {Type: T, Properties: {P: 'a ${X}'}}}]",
            "outside of Fn::Sub, which stays",
        ),
        ("Fn::ForEach::L: [X, [A], {'T${X}': {Type: T, Properties: {P: !Ref '${X}F'}}}]", "outside of Fn::Sub"),
        ("Fn::ForEach::L: [X, [A], {'T${X}': {Type: T, Properties: {P: 'a &{X}'}}}]", "outside of Fn::Sub"),
        ("Fn::ForEach::L: [X, [A], {'T${X}': {Type: T, Properties: {'${X}': 1}}}]", "outside of Fn::Sub"),
        (
            "Fn::ForEach::L: [X, [A], {'T${X}': {Type: T, Properties: {P: !Sub '${AWS::StackName}-${X}'}}}]",
            "has AWS::StackName and an identifier, which CloudFormation can't resolve",
        ),
        (
            "Fn::ForEach::L: [X, [A], {'T${X}': {Type: T, Properties: {P: !GetAtt [!Sub '${AWS::Region}${X}', Arn]}}}]",
            "is no name once the identifiers are known",
        ),
        (
            "Fn::ForEach::L: [X, [A], {'T${X}': {Type: T, Properties: {P: !FindInMap [M, !Ref X, k]}}}]",
            "the mapping M has no value for A, k; add it",
        ),
        (
            "Fn::ForEach::L: [X, [A], {'T${X}': {Type: T, Properties: {Fn::ForEach::K: [Y, [B], {'${Y}': 1}]}}}]",
            "Fn::ForEach::K: a loop inside of .*; only whole resources may be repeated",
        ),
        (
            "T: {Type: T, Properties: {Fn::ForEach::K: [Y, [B], {'${Y}': 1}]}}",
            "Fn::ForEach::K: a loop inside of T; only whole resources may be repeated",
        ),
    ],
)
def test_a_loop_that_cloudformation_or_localcloud_cant_write_out_is_named(resources, message):
    with pytest.raises(UnsupportedLoop, match=message):
        expanded(resources, "Parameters: {P: {Type: String}}\n")


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ("AWS::Serverless-2016-10-31", "the template lacks the transform; put AWS::LanguageExtensions first"),
        ("[AWS::Serverless-2016-10-31, AWS::LanguageExtensions]", "AWS::LanguageExtensions isn't the first transform"),
    ],
)
def test_loops_need_their_transform_before_all_others(transform, message):
    with pytest.raises(UnsupportedLoop, match=message):
        expanded("Fn::ForEach::L: [X, [A], {'T${X}': {Type: T}}]", transform=transform)


def test_a_loop_in_another_section_is_refused():
    with pytest.raises(UnsupportedLoop, match="a loop in Outputs"):
        expanded("T: {Type: T}", "Outputs: {Fn::ForEach::L: [X, [A], {'T${X}': {Value: 1}}]}\n")
