#!/usr/bin/env python3
"""Compares a .proto file with a table of the interface's own names and numbers: check.py <proto> <table> <package>.

Fails for a field, enum value or method that differs from the table, and for one that is missing from a message that is
there. Messages may be left out; a field of a message that is left out must then be named as reserved."""

import re
import sys


def read_table(path, package):
    fields, values, methods = {}, {}, {}
    with open(path, encoding="utf-8") as f:
        for line in f.read().splitlines()[1:]:
            what, pkg, name, field, number, many, of = (line.split("\t") + [""] * 7)[:7]
            if pkg != package:
                continue
            if what == "rpc":
                methods[field] = (name, many, of)
            elif what == "enum":
                values.setdefault(name, {})[field] = int(number)
            else:
                message = fields.setdefault(name, {})
                if field:
                    message[field] = (int(number), "list" if many == "map" else many, "KeyValue" if many == "map" else of)
    return fields, values, methods


def read_proto(path):
    with open(path, encoding="utf-8") as f:
        text = re.sub(r"//[^\n]*", "", f.read())
    fields, values, methods, reserved = {}, {}, {}, {}
    for kind, name, body in re.findall(r"\b(message|enum|service)\s+(\w+)\s*\{([^}]*)\}", text):
        if kind == "enum":
            values[name] = {v: int(n) for v, n in re.findall(r"(\w+)\s*=\s*(\d+)\s*;", body)}
        elif kind == "service":
            for method, asks, answers in re.findall(r"rpc\s+(\w+)\(([\w ]+)\)\s*returns\s*\(([\w ]+)\)", body):
                methods[method] = (name, asks, answers)
        else:
            fields[name] = {f: (int(n), "list" if rep else "one", of)
                            for rep, of, f, n in re.findall(r"(repeated\s+)?(\w+)\s+(\w+)\s*=\s*(\d+)\s*;", body)}
            numbers = re.search(r"\breserved\s+([\d,\s]+);", body)
            reserved[name] = {int(n) for n in numbers.group(1).split(",")} if numbers else set()
    return fields, values, methods, reserved


def problems(proto, table):
    fields, values, methods, reserved = proto
    want_fields, want_values, want_methods = table
    for name, got in fields.items():
        want = want_fields.get(name)
        if want is None:
            yield f"message {name} is not in the table"
            continue
        for field, facts in got.items():
            if want.get(field) != facts:
                yield f"{name}.{field} is {facts}, the table says {want.get(field)}"
        for field, facts in want.items():
            if field not in got and not (facts[0] in reserved[name] and facts[2] not in fields):
                yield f"{name}.{field} = {facts[0]} is missing"
    for name, got in values.items():
        if got != want_values.get(name):
            yield f"enum {name} is {got}, the table says {want_values.get(name)}"
    for name, got in methods.items():
        if got != want_methods.get(name):
            yield f"rpc {name} is {got}, the table says {want_methods.get(name)}"


def main():
    proto = read_proto(sys.argv[1])
    found = list(problems(proto, read_table(sys.argv[2], sys.argv[3])))
    for p in found:
        print(p)
    print(f"{sys.argv[1]}: {len(proto[0])} messages, {sum(map(len, proto[0].values()))} fields, {len(proto[1])} enums, "
          f"{len(proto[2])} methods compared, {len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
