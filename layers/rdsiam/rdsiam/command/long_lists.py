"""Lists that an answer had no room for: the command says where they are, and fetches them with `--all`."""

import json
from collections.abc import Mapping
from typing import Any

from rdsiam.aws.result_store import read
from rdsiam.command.aws import Aws, translate_errors
from rdsiam.command.errors import ExecutionFailed
from rdsiam.errors import ResultUnavailable

_AT, _TOTAL = "_at", "_total"


def remarks(answer: Mapping[str, Any]) -> list[str]:
    """Return a line for each list of an answer that was cut."""
    lists = [(name.removesuffix(_AT), address) for name, address in answer.items() if _is_cut(answer, name)]
    return [
        f"{len(answer[name])} of {answer[name + _TOTAL]} {name}; all of them: {address} (--all fetches them)"
        for name, address in lists
    ]


def fetch(aws: Aws, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer with whole lists, those of its parts included, with the caller's own rights to read S3."""
    whole = {
        name: [fetch(aws, part) if isinstance(part, dict) else part for part in value]
        if isinstance(value, list)
        else value
        for name, value in answer.items()
    }
    for name, address in answer.items():
        if not _is_cut(answer, name):
            continue
        listed = name.removesuffix(_AT)
        with translate_errors(address):
            whole[listed] = json.loads(_read(aws, address))
        del whole[name], whole[listed + _TOTAL]
    return whole


def _is_cut(answer: Mapping[str, Any], name: str) -> bool:
    listed = name.removesuffix(_AT)
    return name.endswith(_AT) and isinstance(answer.get(listed), list) and listed + _TOTAL in answer


def _read(aws: Aws, address: str) -> str:
    try:
        return read(aws.client("s3"), address)
    except ResultUnavailable as error:
        raise ExecutionFailed(str(error)) from None
