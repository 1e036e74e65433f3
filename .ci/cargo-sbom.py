#!/usr/bin/env python3
"""Lists what a program made by cargo consists of, as CycloneDX 1.6: every crate that is linked in or runs while it is built.

Usage: cargo-sbom.py TARGET PROGRAM. Reads `cargo metadata` and Cargo.lock, writes to standard output. The same crates and the same
program give the same bytes: there is no time in it, and its number is a digest of its content.
"""

import hashlib
import json
import os
import subprocess
import sys
import tomllib
import uuid


def metadata(target):
    cargo = os.environ.get("CARGO", "cargo")
    command = [cargo, "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def reached(nodes, root):
    """Returns the crates that are needed: linked in, and only for building."""
    found = {}
    open_ends = [(root, "required")]
    while open_ends:
        crate, scope = open_ends.pop()
        if found.get(crate) in (scope, "required"):
            continue
        found[crate] = scope
        for need in nodes[crate]["deps"]:
            kinds = {kind["kind"] for kind in need["dep_kinds"]}
            if None in kinds:
                open_ends.append((need["pkg"], scope))
            elif "build" in kinds:
                open_ends.append((need["pkg"], "excluded"))
    return found


def main():
    target, program = sys.argv[1:]
    known = metadata(target)
    packages = {package["id"]: package for package in known["packages"]}
    nodes = {node["id"]: node for node in known["resolve"]["nodes"]}
    root = known["resolve"]["root"]
    with open(os.path.join(known["workspace_root"], "Cargo.lock"), "rb") as file:
        locked = {(one["name"], one["version"]): one.get("checksum") for one in tomllib.load(file)["package"]}
    scopes = reached(nodes, root)

    def reference(crate):
        package = packages[crate]
        return f"pkg:cargo/{package['name']}@{package['version']}"

    def component(crate, kind):
        package = packages[crate]
        entry = {
            "type": kind,
            "bom-ref": reference(crate),
            "name": package["name"],
            "version": package["version"],
            "purl": reference(crate),
        }
        if package.get("license"):
            # Some still write `/` for what SPDX calls OR.
            entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        checksum = locked.get((package["name"], package["version"]))
        if checksum:
            entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        if package.get("repository"):
            entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
        return entry

    whole = component(root, "application")
    with open(program, "rb") as file:
        whole["hashes"] = [{"alg": "SHA-256", "content": hashlib.file_digest(file, "sha256").hexdigest()}]
    whole["properties"] = [{"name": "rust:target", "value": target}]
    crates = sorted((crate for crate in scopes if crate != root), key=reference)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": whole},
        "components": [component(crate, "library") | {"scope": scopes[crate]} for crate in crates],
        "dependencies": [
            {
                "ref": reference(crate),
                "dependsOn": sorted({reference(need["pkg"]) for need in nodes[crate]["deps"] if need["pkg"] in scopes}),
            }
            for crate in [root, *crates]
        ],
    }
    content = json.dumps(document, sort_keys=True).encode()
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, hashlib.sha256(content).hexdigest())}"
    json.dump(document, sys.stdout, indent=1, sort_keys=True, ensure_ascii=False)
    print()


main()
