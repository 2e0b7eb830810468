#!/usr/bin/env python3
"""Turns fields.tsv into the C tables of kube/schema.h.

    generate.py fields.tsv enums.tsv out.c

Everything is a small number: an offset into one pool of strings, or an index into the table of types. So the tables
need no relocation and stay in pages that processes share.
"""
import csv
import json
import sys

BUILTIN = {
    "string": "FT_STRING", "bool": "FT_BOOL", "int32": "FT_INT32", "int64": "FT_INT64", "float64": "FT_DOUBLE",
    "bytes": "FT_BYTES", "byte[]": "FT_BYTES",
}
# String types without named values, so not among the enums.
PLAIN_STRINGS = {"UID"}
# Messages that JSON writes as something else than an object.
SPECIAL = {
    "Quantity": "FT_QUANTITY", "IntOrString": "FT_INT_OR_STRING", "Time": "FT_TIME", "MicroTime": "FT_MICRO_TIME",
    "RawExtension": "FT_RAW", "FieldsV1": "FT_RAW", "JSON": "FT_RAW", "ExtraValue": "FT_STRINGS", "Verbs": "FT_STRINGS",
    "JSONSchemaPropsOrArray": "FT_SCHEMA_OR_ARRAY", "JSONSchemaPropsOrBool": "FT_SCHEMA_OR_BOOL",
    "JSONSchemaPropsOrStringArray": "FT_SCHEMA_OR_STRINGS",
}
# Named Go types for lists and maps.
CONTAINER = {
    "ResourceList": ("map", "Quantity", "util"),
    "ValidationRules": ("list", "ValidationRule", "apiextensions.k8s.io"),
    "JSONSchemaDefinitions": ("map", "JSONSchemaProps", "apiextensions.k8s.io"),
    "JSONSchemaDependencies": ("map", "JSONSchemaPropsOrStringArray", "apiextensions.k8s.io"),
}
# String types whose values are all known. The others (conditions, reasons, names of resources) are open.
CLOSED = {
    "AddressType", "AppArmorProfileType", "CompletionMode", "ConcurrencyPolicy", "ConversionStrategyType", "DNSPolicy",
    "DaemonSetUpdateStrategyType", "DeploymentStrategyType", "FailurePolicyType", "IPFamilyPolicy",
    "LabelSelectorOperator", "MatchPolicyType", "MountPropagationMode", "NodeInclusionPolicy", "NodeSelectorOperator",
    "PathType", "PersistentVolumeAccessMode", "PersistentVolumeClaimRetentionPolicyType", "PersistentVolumeMode",
    "PersistentVolumeReclaimPolicy", "PodFSGroupChangePolicy", "PodFailurePolicyAction",
    "PodFailurePolicyOnExitCodesOperator", "PodManagementPolicyType", "PodReplacementPolicy", "PolicyType",
    "PreemptionPolicy", "ProcMountType", "Protocol", "PullPolicy", "RecursiveReadOnlyMode", "ReinvocationPolicyType",
    "ResourceScope", "RestartPolicy", "SeccompProfileType", "ServiceAffinity", "ServiceExternalTrafficPolicy",
    "ServiceInternalTrafficPolicy", "ServiceType", "SideEffectClass", "StatefulSetUpdateStrategyType",
    "SupplementalGroupsPolicy", "TaintEffect", "TerminationMessagePolicy", "TolerationOperator", "URIScheme",
    "UnhealthyPodEvictionPolicyType", "UnsatisfiableConstraintAction", "VolumeBindingMode",
}
GROUP = {"core": "", "meta": "meta.k8s.io"}
STRATEGY = {"merge": "PATCH_MERGE", "replace": "PATCH_REPLACE", "retainKeys": "PATCH_RETAIN_KEYS"}
LIST_TYPE = {"": "LIST_UNSET", "atomic": "LIST_ATOMIC", "map": "LIST_MAP", "set": "LIST_SET", "map:atomic": "LIST_ATOMIC",
             "map:granular": "LIST_GRANULAR", "struct:granular": "LIST_GRANULAR"}
# Types that server-side apply replaces as a whole, wherever they stand (embedded-api.md 4.6).
ATOMIC = {
    "ConfigMapKeySelector", "CrossVersionObjectReference", "EndpointAddress", "EndpointPort", "FileKeySelector",
    "LabelSelector", "LocalObjectReference", "MatchResources", "NodeSelector", "NodeSelectorTerm", "ObjectFieldSelector",
    "ObjectReference", "OwnerReference", "ParamKind", "ParamRef", "ResourceFieldSelector", "RoleRef", "ScopeSelector",
    "SecretKeySelector", "SecretReference", "Subject", "TopologySelectorTerm", "TypedLocalObjectReference",
}


class Strings:
    """One pool of NUL-terminated strings; offset 0 is the empty one."""

    def __init__(self):
        self.offsets, self.size = {"": 0}, 1

    def offset(self, text):
        if text not in self.offsets:
            self.offsets[text] = self.size
            self.size += len(text) + 1
        if self.offsets[text] > 0xFFFF:
            raise SystemExit("the string pool has grown past 64 KiB")
        return self.offsets[text]


def read(path):
    with open(path, newline="") as f:
        return list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))


def default_json(text):
    if not text:
        return ""
    if text.startswith("ref("):  # a Go constant; its value is not in the table
        return ""
    json.loads(text)
    return text


def main():
    rows = read(sys.argv[1])
    strings = Strings()
    enums = read(sys.argv[2])
    string_types = PLAIN_STRINGS | {r["type"] for r in enums if r["base"] == "string"}
    values = {r["type"]: " ".join(sorted(r["values"].split())) for r in enums if r["type"] in CLOSED}
    if CLOSED - set(values):
        raise SystemExit(f"no values of {CLOSED - set(values)}")
    types = {}
    for r in rows:
        types.setdefault((r["group"], r["type"]), []).append(r)
    order = sorted(types, key=lambda k: (k[1], GROUP.get(k[0], k[0])))
    index = {key: i for i, key in enumerate(order)}

    def message(group, name):
        for g in (group, "meta", "util", "runtime", "core"):
            if (g, name) in index:
                return index[(g, name)]
        return None

    def resolve(row):
        """(field type, shape, index of the message or 0)"""
        shape, group, name = row["many"], row["group"], row["of"]
        if "." in name:
            group, name = name.rsplit(".", 1)
            group = {"apiv1": "core"}.get(group, group)
        if name in CONTAINER:
            shape, name, group = CONTAINER[name]
        where = f'{row["group"]}.{row["type"]}.{row["json"]}'
        if name in BUILTIN:
            return BUILTIN[name], shape, 0
        if name in SPECIAL:
            # The unions of a JSON schema hold a JSONSchemaProps.
            inner = index[("apiextensions.k8s.io", "JSONSchemaProps")] if "SCHEMA_OR" in SPECIAL[name] else 0
            return SPECIAL[name], shape, inner
        found = message(group, name)
        if found is not None:
            return "FT_MESSAGE", shape, found
        if name in string_types:
            return "FT_STRING", shape, 0
        raise SystemExit(f"{where}: unknown type {name}")

    fields, type_lines = [], []
    for key in order:
        first = len(fields)
        for row in types[key]:
            if not row["json"] or row["json"] == "-" or not row["of"]:
                continue  # a message without fields
            ft, shape, inner = resolve(row)
            flags = row["flags"].split(",")
            inlined = "inline" in flags
            name = "" if inlined else row["json"]
            strategy = " | ".join(STRATEGY[s] for s in row["patchStrategy"].split(",") if s) or "0"
            number = 0 if row["proto"] == "-" else int(row["proto"])
            fields.append(
                f"    {{.json_name = {strings.offset(name)}, .name_len = {len(name)}, .number = {number}, .type = {ft}, "
                f".shape = FS_{shape.upper()}, .inlined = {int(inlined)}, .optional = {int('optional' in flags)}, "
                f".pointer = {int('pointer' in flags)}, .strategy = {strategy}, .list_type = {LIST_TYPE[row['listType']]}, "
                f".message = {inner}, .merge_key = {strings.offset(row['patchMergeKey'])}, "
                f".list_map_keys = {strings.offset(row['listMapKey'])}, "
                f".enum_values = {strings.offset(values.get(row['of'].rsplit('.', 1)[-1], ''))}, "
                f".default_value = {strings.offset(default_json(row['default']))}}},")
        group, name = key
        version = types[key][0]["version"]
        type_lines.append(f"    {{.group = {strings.offset(GROUP.get(group, group))}, .version = {strings.offset(version)}, "
                          f".name = {strings.offset(name)}, .first_field = {first}, .n_fields = {len(fields) - first}, "
                          f".atomic = {int(name in ATOMIC)}}},")

    with open(sys.argv[3], "w") as out:
        out.write("/* Generated by src/kube/schema/generate.py. */\n#include \"kube/schema.h\"\n\nconst char schema_strings[] =\n")
        for text in strings.offsets:  # insertion order is offset order
            out.write(f"    {json.dumps(text)} \"\\0\"\n")
        out.write("    ;\n\nconst struct schema_field schema_fields[] = {\n" + "\n".join(fields) + "\n};\n\n")
        out.write("const struct schema_type schema_types[] = {\n" + "\n".join(type_lines) + "\n};\n\n")
        out.write(f"const size_t schema_n_types = {len(order)};\n")


main()
