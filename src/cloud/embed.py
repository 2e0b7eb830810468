"""Text files as C strings: embed.py OUTPUT NAME FILE..."""
import sys

output, name, files = sys.argv[1], sys.argv[2], sys.argv[3:]
with open(output, "w", encoding="utf-8") as out:
    out.write(f"static const char *const {name}[] = {{\n")
    for path in files:
        with open(path, encoding="utf-8") as f:
            for line in f:
                text = line.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
                out.write(f'    "{text}"\n')
        out.write("    ,\n")
    out.write("};\n")
