#!/usr/bin/env python3
"""Checks the dependency rule of the tree over #include lines, and that each foreign API stays in its folder.

usage: check_dependencies.py SOURCE_DIR    exit 0: clean, 1: violations, one line each
"""
import pathlib
import re
import sys

MIDDLE = {"model", "optim", "data", "energy", "comm", "io", "report"}
# Folder → the folders of src/ it may include, besides itself.
ALLOWED = {"core": set(), "train": MIDDLE | {"core"}, "cli": MIDDLE | {"core", "train"},
           **{name: {"core"} for name in MIDDLE}}
MAY_USE_KERNELS = {"model", "optim", "train", "cli"}  # train and cli: devices and ops of the step and the bench
# Pattern → where it may appear (path prefixes).
CONFINED = {
    r"\bMPI_[A-Z]": ["src/comm/"],
    r"\bH5[A-Z]{1,2}[a-z_]": ["src/io/"],
    r"\bnccl[A-Z]": ["src/comm/nccl."],
    r"<<<": ["kernels/cuda/"],
    r"boost/program_options|boost::program_options": ["src/cli/"],
}


def violations(root):
    for path in sorted([*root.glob("src/**/*.[ch]pp"), *root.glob("kernels/**/*")]):
        if path.suffix not in {".cpp", ".hpp", ".cu", ".cuh"}:
            continue
        name = path.relative_to(root).as_posix()
        folder = path.relative_to(root).parts[1] if name.startswith("src/") else "kernels"
        for number, line in enumerate(path.read_text().splitlines(), 1):
            include = re.match(r'\s*#include "([^"]+)"', line)
            if include:
                target = include.group(1).split("/")[0]
                if folder == "kernels" and target != "kernels":
                    yield f"{name}:{number}: kernels/ must not include {include.group(1)}"
                elif target == "kernels" and folder not in MAY_USE_KERNELS | {"kernels"} and name != "src/main.cpp":
                    yield f"{name}:{number}: {folder} must not include kernels"
                elif target in ALLOWED and folder in ALLOWED and target != folder and target not in ALLOWED[folder]:
                    yield f"{name}:{number}: {folder} must not include {target}"
            code = line.split("//")[0]
            for pattern, places in CONFINED.items():
                if re.search(pattern, code) and not any(name.startswith(place) for place in places):
                    yield f"{name}:{number}: {pattern} belongs to {', '.join(places)}"


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 64
    found = list(violations(pathlib.Path(sys.argv[1])))
    print("\n".join(found) if found else "dependency rule: clean")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
