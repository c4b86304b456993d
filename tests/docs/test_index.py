#!/usr/bin/env python3
"""Every name in tests/INDEX.md exists: a test's name, a meson test, a file below tests/, or a command of ./dev."""

import pathlib
import re
import sys


def names_missing(root: pathlib.Path, index: str) -> list[str]:
    sources = [p for kind in ("*.cpp", "*.c", "*.py", "*.hpp", "meson.build", "*.md")
               for p in [*(root / "tests").rglob(kind), *(root / "layout").rglob(kind), *(root / "fuzz").rglob(kind), *(root / "tools").rglob(kind)]]
    text = "\n".join(p.read_text(errors="replace") for p in sources if p.name not in ("INDEX.md", "test_index.py"))
    dev = (root / "dev").read_text()
    bench = "\n".join(p.read_text() for p in (root / "bench").glob("*.cpp"))
    missing = []
    for name in re.findall(r"`([^`]+)`", index):
        if name.startswith("./dev "):
            words = name.split()[1:]
            if not re.search(rf"^command_{words[0]}\(\)", dev, re.M):
                missing.append(name)
            elif words[0] == "bench" and not re.search(rf'"{words[1]}"', bench):
                missing.append(name)
        elif name in ("file", "code", "lane_repairs", "pins_voided", "warmtierctl", ".npy", "--strict"):
            continue
        elif not re.search(rf"\b{re.escape(name.split('/')[-1])}\b", text):
            missing.append(name)
    for file in re.findall(r"(?<![`\w/])((?:[\w-]+/)+[\w-]+\.(?:cpp|c|py))", index):
        if not (root / "tests" / file).exists() and not (root / file).exists():
            missing.append(file)
    return missing


def main() -> int:
    root = pathlib.Path(sys.argv[1])
    index = (root / "tests" / "INDEX.md").read_text()
    missing = names_missing(root, index)
    for name in missing:
        print(f"tests/INDEX.md names what does not exist: {name}")
    planted = names_missing(root, "| x | unit/store/test_gone.cpp: `a_test_that_was_never_written` `./dev nothing` |")
    if len(planted) != 3:
        print(f"three planted names should be missing, found {planted}")
        return 1
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
