"""docs/record.schema.json, as tests use it: a field that the table does not have is an error."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, ValidationError

from places import ROOT


@cache
def validators() -> dict[str, Draft202012Validator]:
    """The schema of each type of line."""
    schema = json.loads((ROOT / "docs" / "record.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    for definition in schema["$defs"].values():
        if "properties" in definition:
            definition["additionalProperties"] = False
    types = [each["$ref"].rpartition("/")[2] for each in schema["oneOf"]]
    return {name: Draft202012Validator({"$defs": schema["$defs"], "$ref": f"#/$defs/{name}"}) for name in types}


def problems(lines: Iterable[dict[str, Any]]) -> list[str]:
    """What of these lines is not as the schema says."""
    found = [
        f"{line['type']} {each.json_path}: {each.message}"[:300]
        for line in lines
        for error in validators()[line["type"]].iter_errors(line)
        for each in causes(error)
    ]
    return list(dict.fromkeys(found))


def causes(error: ValidationError) -> Iterator[ValidationError]:
    """The errors of the alternatives of an object, except that it is not null."""
    inner = [each for each in error.context or () if each.validator_value != "null"]
    for each in inner:
        yield from causes(each)
    if not inner:
        yield error
