"""The schema of the chart's values, with the policy's own schema for the key `policy`.

Helm compiles patterns with Go's regexp, which has no look-ahead. A pattern with one is left out,
and the plugin checks the value.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DEPLOY = Path(__file__).parents[1]
VALUES = DEPLOY / "chart" / "values.schema.json"
POLICY = DEPLOY.parent / "nri_inject" / "policy" / "schema.json"


def merged(values: Any, policy: Any) -> Any:
    """Return the schema of values with the keys and the definitions of the policy's."""
    own = {name: one for name, one in values["definitions"].items() if name.endswith("_of_node")}
    keys = {key: policy[key] for key in ("type", "additionalProperties", "properties")}
    properties = {**values["properties"], "policy": {"oneOf": [{"type": "null"}, keys]}}
    definitions = {**own, **policy["definitions"]}
    return _for_go({**values, "properties": properties, "definitions": definitions})


def _for_go(schema: Any) -> Any:
    """Return a schema without the patterns that Go cannot compile."""
    if isinstance(schema, dict):
        return {
            key: _for_go(value)
            for key, value in schema.items()
            if not (key == "pattern" and isinstance(value, str) and "(?!" in value)
        }
    return [_for_go(value) for value in schema] if isinstance(schema, list) else schema


def new_text() -> str:
    """Return the text that the file should have."""
    new = merged(json.loads(VALUES.read_text()), json.loads(POLICY.read_text()))
    return json.dumps(new, indent=2) + "\n"
