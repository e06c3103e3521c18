"""As much of JSON Schema as the evidence's schema uses."""

import re

KINDS = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
}


def is_of(kind, value):
    if kind in ("number", "integer"):
        allowed = int if kind == "integer" else int | float
        return isinstance(value, allowed) and not isinstance(value, bool)
    return isinstance(value, KINDS[kind])


def errors(value, schema, root, path="$"):
    """Yield what is wrong with a value."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        yield from errors(value, root["$defs"][name], root, path)
    if "anyOf" in schema and all(list(errors(value, s, root, path)) for s in schema["anyOf"]):
        yield f"{path}: matches none of anyOf"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(is_of(kind, value) for kind in kinds):
        yield f"{path}: {value!r} is not {kinds}"
        return
    if "const" in schema and value != schema["const"]:
        yield f"{path}: {value!r} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is not one of {schema['enum']}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{path}: {value!r} does not match {schema['pattern']}"
    low, high = schema.get("minimum", -float("inf")), schema.get("maximum", float("inf"))
    if is_of("number", value) and not low <= value <= high:
        yield f"{path}: {value} is out of range"
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from errors(item, schema.get("items", {}), root, f"{path}[{number}]")
    if isinstance(value, dict):
        known = schema.get("properties", {})
        for name in schema.get("required", []):
            if name not in value:
                yield f"{path}: {name} is missing"
        for name, item in value.items():
            other = schema.get("additionalProperties", {})
            if name not in known and other is False:
                yield f"{path}: {name} is unknown"
                continue
            part = known.get(name, other if isinstance(other, dict) else {})
            yield from errors(item, part, root, f"{path}.{name}")
