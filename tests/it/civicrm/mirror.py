#!/usr/bin/env python3
"""Makes a Composer repository of stand-ins for Drupal, CiviCRM and their plugins: the right names, kinds, versions and addresses, and
programs that refuse what the real ones would.

    mirror.py FOLDER ADDRESS [--form v1|v2] [--tar] [--no-checksum] [--relative] [--mirrored] [--only NAME=VERSION]

ADDRESS is where FOLDER will be found: `http://127.0.0.1:8000` or `file:///srv/mirror`.
"""

import argparse
import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Of what is asked for by exact version, an older one lies beside it: the newest is not always the one that is wanted.
OLDER = {"drupal/core-recommended": "10.5.0", "drush/drush": "13.6.0"}


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, content)
    return out.getvalue()


def tarred(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), 1767225600
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def sources():
    """Returns the files of each package by their paths, under the package's name."""
    packages = {}
    for definition in sorted((HERE / "packages").glob("*/*/composer.json")):
        folder = definition.parent
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        packages[f"{folder.parent.name}/{folder.name}"] = files
    return packages


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("address")
    options.add_argument("--form", choices=["v1", "v2"], default="v2")
    options.add_argument("--tar", action="store_true")
    options.add_argument("--no-checksum", action="store_true")
    options.add_argument("--relative", action="store_true", help="addresses of archives are paths below the repository")
    options.add_argument("--mirrored", action="store_true", help="archives are at addresses that nobody answers, and here as a mirror")
    options.add_argument("--only", action="append", default=[], metavar="NAME=VERSION", help="a package in this version alone")
    wish = options.parse_args()
    address = wish.address.rstrip("/")
    only = dict(pair.split("=") for pair in wish.only)

    def write(path, content):
        at = wish.folder / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(content if isinstance(content, bytes) else content.encode())

    metadata = {}
    for name, files in sources().items():
        # Addresses in packages are those of this repository.
        files = {path: content.replace(b"https://mirror.example", address.encode()) for path, content in files.items()}
        definition = json.loads(files["composer.json"])
        own = definition["version"]
        versions = [only[name]] if name in only else [own, OLDER[name]] if name in OLDER else [own]
        for version in versions:
            package = dict(definition, version=version)
            if package.get("type") != "metapackage":
                reference = hashlib.sha1(f"{name} {version}".encode()).hexdigest()
                top = f"{name.replace('/', '-')}-{reference[:7]}"
                content = (tarred if wish.tar else zipped)({f"{top}/{path}": text for path, text in files.items()})
                ending = "tar" if wish.tar else "zip"
                path = f"dist/{name}/{version}-{reference}.{ending}"
                write(path, content)
                url = path if wish.relative else f"{address}/{path}"
                if wish.mirrored:
                    url = f"https://archives.example/{name}/zipball/{reference}"
                dist = {"type": ending, "url": url, "reference": reference}
                dist["shasum"] = "" if wish.no_checksum else hashlib.sha1(content).hexdigest()
                package["dist"] = dist
                package["source"] = {"type": "git", "url": f"https://sources.example/{name}.git", "reference": reference}
            metadata.setdefault(name, []).append(package)
    for path in sorted((HERE / "files").rglob("*")):
        if path.is_file():
            write(f"files/{path.relative_to(HERE / 'files').as_posix()}", path.read_bytes())
    # What `extra.downloads` of stand-ins names: the archive of a library for browsers.
    write("files/jquery-1.12.4.zip", zipped({"jquery-1.12.4/dist/jquery.js": b"/* a library */\n"}))

    root = {"packages": [], "notify-batch": "https://packagist.example/downloads/"}
    if wish.mirrored:
        root["mirrors"] = [{"dist-url": f"{address}/dist/%package%/%version%-%reference%.%type%", "preferred": True}]
        # Versions in the addresses of a mirror are normalised ones.
        for name, packages in metadata.items():
            for package in packages:
                if "dist" in package:
                    plain = package["version"].removeprefix("v")
                    normal = plain + ".0" * (3 - plain.count("."))
                    kind, reference = package["dist"]["type"], package["dist"]["reference"]
                    content = (wish.folder / f"dist/{name}/{package['version']}-{reference}.{kind}").read_bytes()
                    write(f"dist/{name}/{normal}-{reference}.{kind}", content)
    if wish.form == "v2":
        root.update({"metadata-url": "/p2/%package%.json", "available-packages": sorted(metadata)})
        if address.startswith("file:"):
            root["metadata-url"] = f"{address}/p2/%package%.json"
        for name, packages in metadata.items():
            write(f"p2/{name}.json", json.dumps({"packages": {name: packages}}))
            write(f"p2/{name}~dev.json", json.dumps({"packages": {name: []}}))
    else:
        all_packages = {name: {package["version"]: package for package in packages} for name, packages in metadata.items()}
        include = json.dumps({"packages": all_packages}).encode()
        digest = hashlib.sha1(include).hexdigest()
        write(f"include/all${digest}.json", include)
        root["includes"] = {f"include/all${digest}.json": {"sha1": digest}}
    write("packages.json", json.dumps(root, indent=1))


main()
