#!/usr/bin/python3
# META.json follows the PGXN Meta Spec, has eda.control's version, and names files that exist; the schema refuses a broken one.
"""Needs python3-jsonschema.  The last line is "N passed, N failed".

PGXN wants three numbers in a version, so its 0.1.0 is 0.1 in eda.control.
"""
import copy
import json
import re
import sys
from pathlib import Path

import jsonschema

top = Path(__file__).resolve().parent.parent
passed = failed = 0


def ok(condition, name):
    """Count a test and print how it went."""
    global passed, failed
    passed, failed = (passed + 1, failed) if condition else (passed, failed + 1)
    print("ok" if condition else "not ok", "-", name)


def once(pairs):
    """Make an object of JSON, in which no key may stand twice."""
    assert len({key for key, _ in pairs}) == len(pairs), "a key stands twice"
    return dict(pairs)


def three_numbers(version):
    """A version as PGXN writes it."""
    return version if version.count(".") > 1 else version + ".0"


schema = json.loads((top / "test/meta.schema.json").read_text())
jsonschema.Draft7Validator.check_schema(schema)
validator = jsonschema.Draft7Validator(schema)

meta = json.loads((top / "META.json").read_text(), object_pairs_hook=once)
for error in validator.iter_errors(meta):
    print("#", "/".join(map(str, error.path)), error.message)
ok(validator.is_valid(meta), "META.json follows the PGXN Meta Spec 1.0.0")

control = re.search(r"^default_version = '(.*)'", (top / "eda.control").read_text(), re.M).group(1)
extension = meta["provides"]["eda"]
api = json.loads((top / "gateway/www/openapi.json").read_text())
ok(meta["version"] == three_numbers(control), f"the version of META.json, {meta['version']}, is eda.control's, {control}")
ok(extension["version"] == meta["version"], "the extension's version is the distribution's")
ok(api["info"]["version"] == control, "the version of gateway/www/openapi.json is eda.control's")
ok(re.search(rf"^## \[?{re.escape(control)}\]?|^## \[Unreleased\]", (top / "CHANGELOG.md").read_text(), re.M),
   "CHANGELOG.md has the version, or \"Unreleased\"")
for path in [extension["file"], extension["docfile"], *meta["no_index"]["directory"]]:
    ok((top / path).exists(), f"{path} exists")


def refused(name, change):
    """The schema refuses META.json after this change to it."""
    broken = copy.deepcopy(meta)
    change(broken)
    ok(not validator.is_valid(broken), f"refused: {name}")


for key in schema["required"]:
    refused(f"no {key}", lambda m, key=key: m.pop(key))
refused("a version of two numbers", lambda m: m.update(version="0.1"))
refused("a version that is a number", lambda m: m.update(version=0.1))
refused("an empty abstract", lambda m: m.update(abstract=""))
refused("nobody who maintains it", lambda m: m.update(maintainer=[]))
refused("a name with a space", lambda m: m.update(name="e da"))
refused("an unknown licence", lambda m: m.update(license="PostgreSQL"))
refused("a licence without its address", lambda m: m.update(license={"PostgreSQL": "none"}))
refused("no extension", lambda m: m.update(provides={}))
refused("an extension without a file", lambda m: m["provides"]["eda"].pop("file"))
refused("an extension without a version", lambda m: m["provides"]["eda"].pop("version"))
refused("a file outside of the distribution", lambda m: m["provides"]["eda"].update(file="../eda.control"))
refused("a file by its full path", lambda m: m["provides"]["eda"].update(file="/eda.control"))
refused("another version of the spec", lambda m: m["meta-spec"].update(version="2.0.0"))
refused("an unknown key", lambda m: m.update(author="somebody"))
refused("an unknown phase", lambda m: m["prereqs"].update(runtimes={}))
refused("an unknown relationship", lambda m: m["prereqs"]["runtime"].update(needs={}))
refused("a range that is none", lambda m: m["prereqs"]["runtime"]["requires"].update(PostgreSQL="fifteen"))
refused("an unknown release status", lambda m: m.update(release_status="beta"))
refused("a tag with a slash", lambda m: m["tags"].append("a/b"))
refused("a repository that is a string", lambda m: m.update(resources={"repository": "https://example.org/eda.git"}))

# What the spec allows and META.json does not have.
fine = {**meta, "x_ours": 1, "license": {"PostgreSQL": "https://www.postgresql.org/about/licence"}, "maintainer": ["A <a@example.org>"],
        "resources": {"homepage": "https://example.org/", "bugtracker": {"web": "https://example.org/issues"},
                      "repository": {"url": "https://example.org/eda.git", "type": "git"}}}
fine["prereqs"] = {"build": {"requires": {"PostgreSQL": ">= 15.0.0, != 15.1.0, < 20.0.0"}}}
ok(validator.is_valid(fine), "accepted: all that the spec allows")

print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
