#!/usr/bin/env python3
"""Walks through a guide as its reader would, in the present folder.

    walk.py GUIDE [SECTION…]    all sections, or those with these headings, in this order

A fence of `sh` is typed in; what it exports is there in the next one. It must succeed, or, where a fence of `text` stands
behind it, print that: each line in its order, `…` standing for anything. Then it is tried again for some time, because
what it looks for may still be on its way. A fence behind `<!-- from FILE -->` must be found in that file.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time

PATIENCE = 60  # seconds until what is expected has to be there
LONGEST = 900  # seconds that a block may take; the first of a language installs what it needs
FENCE = re.compile(r"(?:<!-- from (?P<file>\S+) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def sections(guide):
    """Text by heading; what stands before the first heading belongs to the empty one."""
    parts = re.split(r"^## (.+)$", guide, flags=re.MULTILINE)
    return dict(zip([""] + parts[1::2], parts[::2]))


def fits(expected, output):
    """Whether the lines expected come in this order."""
    lines = iter(" ".join(line.split()) for line in output.splitlines())
    for wanted in filter(None, (" ".join(line.split()) for line in expected.splitlines())):
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in wanted.split("…")))
        if not any(pattern.search(line) for line in lines):
            return False
    return True


def run(block, memory):
    """Types a block in; its exit code and all that it prints."""
    script = f"[ ! -s {memory} ] || . {memory}\ntrap 'export -p >{memory}' EXIT\nset -o pipefail\n{block}"
    process = subprocess.Popen(
        ["bash", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return 1, f"{output}\n(ended after {LONGEST} s)"
    return process.returncode, output


def step(block, expected, memory):
    """Runs a block until it is well, or patience ends; what is wrong."""
    began = time.monotonic()
    while True:
        code, output = run(block if expected is not None else f"set -e\n{block}", memory)
        if expected is None:
            return None if code == 0 else f"exit code {code}:\n{output}"
        if fits(expected, output):
            return None
        if time.monotonic() - began > PATIENCE:
            return f"expected\n{expected}\nbut the last of {int(time.monotonic() - began)} s was\n{output}"
        time.sleep(0.5)


def main():
    path, wanted = sys.argv[1], sys.argv[2:]
    name = os.path.basename(path)
    with open(path, encoding="utf-8") as file:
        guide = sections(file.read())
    unknown = [heading for heading in wanted if heading not in guide]
    if unknown:
        sys.exit(f"{name} has no section {', '.join(unknown)}")
    fences = [fence for heading in wanted or guide for fence in FENCE.finditer(guide[heading])]
    steps = 0
    with tempfile.TemporaryDirectory() as folder:
        memory = os.path.join(folder, "exported")
        for fence, behind in zip(fences, [*fences[1:], None]):
            if fence["file"]:
                with open(fence["file"], encoding="utf-8") as file:
                    if fence["text"] not in file.read():
                        sys.exit(f"{name}: this is not in {fence['file']} any more:\n{fence['text']}")
            if fence["kind"] == "sh":
                expected = behind["text"] if behind is not None and behind["kind"] == "text" else None
                wrong = step(fence["text"], expected, memory)
                if wrong:
                    sys.exit(f"{name}: after\n{fence['text']}{wrong}")
                steps += 1
    print(f"{name}{''.join(f', {heading}' for heading in wanted)}: {steps} steps")


if __name__ == "__main__":
    main()
