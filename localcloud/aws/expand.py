"""Expands a SAM template as CloudFormation would: loops first, then AWS's own translator, with code from any place.

`python -m localcloud.aws.expand template.yaml` prints the result as JSON, for scanners.
"""

import copy
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import yaml
from moto.iam.aws_managed_policies import aws_managed_policies_data
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import intrinsics_multi_constructor

from localcloud.aws.language_extensions import expand_loops

_CODE = "s3://localcloud/code"


class _Loader(yaml.CSafeLoader):
    """Reads CloudFormation's short forms as AWS's translator does, whose own reader takes seconds."""


_Loader.add_multi_constructor("!", intrinsics_multi_constructor)


class TemplateRefused(Exception):
    """The template has something that this cloud must not or cannot do."""


def read(path: Path) -> dict[str, Any]:
    """Return the template with its loops and CloudFormation's short forms written out.

    :raises TemplateRefused: the file can't be read, or is no template.
    :raises UnsupportedLoop: a loop has a form that isn't supported.
    """
    try:
        template = yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506  a safe one
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TemplateRefused(f"{path} can't be read: {' '.join(str(error).split())}") from None
    if not isinstance(template, dict) or not isinstance(template.get("Resources"), dict):
        raise TemplateRefused(f"{path} is no template: it has no Resources")
    return expand_loops(template)


def expand(sam: Mapping[str, Any], session: boto3.Session, parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return a SAM template as plain CloudFormation. Its metadata stays where it was."""
    template = copy.deepcopy(dict(sam))
    # The translator takes code from S3 only; it is never fetched, so any address is right.
    for properties in [
        template.get("Globals", {}).get("Function", {}),
        *(resource.get("Properties", {}) for resource in template["Resources"].values()),
    ]:
        for key in ("CodeUri", "ContentUri"):
            if key in properties:
                properties[key] = f"{_CODE}/{properties[key]}"
    managed = {
        name: f"arn:aws:iam::aws:policy{policy['Path']}{name}"
        for name, policy in json.loads(aws_managed_policies_data).items()
    }
    translator = Translator(managed, Parser(), boto_session=session)
    expanded: dict[str, Any] = translator.translate(
        sam_template=template, parameter_values=dict(parameters), passthrough_metadata=True
    )
    return expanded


def main() -> None:
    """Print the expanded template."""
    logging.disable(logging.WARNING)  # about feature toggles that only AWS has
    session = boto3.Session(region_name="eu-west-1")
    sys.stdout.write(json.dumps(expand(read(Path(sys.argv[1])), session, {}), indent=1) + "\n")


if __name__ == "__main__":
    main()
