"""What values.yaml says of itself, and the README's table of it."""

import json
import re

import chart

BEGIN, END = "<!-- values: made from values.yaml -->\n", "<!-- end of values -->\n"


def rows(text=None):
    """(path, comment) of every key with a `# --` comment, in order."""
    path, comment, found = [], None, []
    for line in (text or (chart.CHART / "values.yaml").read_text()).splitlines():
        indent = len(line) - len(line.lstrip())
        if match := re.match(r" *# -- (.+)", line):
            comment = match[1]
        elif match := re.match(r" *([A-Za-z_]\w*):", line):
            path = [*path[: indent // 2], match[1]]
            if comment:
                found.append((tuple(path), comment))
            comment = None
    return found


def value(path):
    """A default."""
    at = chart.VALUES
    for name in path:
        at = at[name]
    return at


def undocumented(at, known, path=()):
    """Paths of keys that neither have a comment nor stand below one."""
    if path in known:
        return []
    if not isinstance(at, dict) or not at:
        return [path]
    return [missing for name, below in at.items() for missing in undocumented(below, known, (*path, name))]


def table():
    """The table, in Markdown."""
    lines = ["| value | default | |", "|---|---|---|"]
    for path, comment in rows():
        default = json.dumps(value(path), ensure_ascii=False).replace("|", "\\|")
        lines.append(f"| `{'.'.join(path)}` | `{default}` | {comment.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def readme(text):
    """The README with the table as it has to be."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{table()}{END}{after}"
