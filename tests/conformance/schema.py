"""As much of JSON Schema as docs/vectors.schema.json needs. Anything else in a schema is an error."""

import re

TYPES = {"object": dict, "array": list, "string": str, "number": (int, float), "integer": int, "null": type(None)}
WORDS = {"$schema", "$defs", "title", "description"}


def faults(value, schema, root=None, at="index"):
    """What is wrong with a value, as a list of sentences; empty if nothing is."""
    root = root or schema
    found = []
    for key, rule in schema.items():
        if key == "$ref":
            found += faults(value, root["$defs"][rule.removeprefix("#/$defs/")], root, at)
        elif key == "type":
            names = [rule] if isinstance(rule, str) else rule
            if isinstance(value, bool) or not any(isinstance(value, TYPES[name]) for name in names):
                found.append(f"{at} is no {' or '.join(names)}")
        elif key == "const":
            found += [] if value == rule else [f"{at} is not {rule!r}"]
        elif key == "enum":
            found += [] if value in rule else [f"{at} is none of {rule}"]
        elif key == "minimum":
            found += [] if value >= rule else [f"{at} is below {rule}"]
        elif key == "pattern":
            found += [] if not isinstance(value, str) or re.search(rule, value) else [f"{at} is not like {rule}"]
        elif key == "items":
            found += [fault for i, v in enumerate(value) for fault in faults(v, rule, root, f"{at}[{i}]")]
        elif key == "required":
            found += [f"{at} has no {name}" for name in rule if isinstance(value, dict) and name not in value]
        elif key == "properties":
            inside = {name: v for name, v in (value or {}).items() if name in rule}
            found += [fault for name, v in inside.items() for fault in faults(v, rule[name], root, f"{at}.{name}")]
        elif key == "additionalProperties":
            others = {name: v for name, v in (value or {}).items() if name not in schema.get("properties", {})}
            if rule is False:
                found += [f"{at} has {name}" for name in others]
            else:
                found += [fault for name, v in others.items() for fault in faults(v, rule, root, f"{at}.{name}")]
        elif key not in WORDS:
            raise NotImplementedError(key)
    return found
