"""Tables in Markdown, and a page's sections that a script writes between two markers."""
import os


def table(head, rows):
    """The first column is words, the others stand at the right."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def write_section(path, name, text):
    """Replaces what stands between `<!-- NAME` and `<!-- end of NAME -->`, or puts both at the page's end."""
    begin, end = f"<!-- {name} ", f"<!-- end of {name} -->"
    whole = f"{begin}(written by its script; do not edit) -->\n\n{text.strip()}\n\n{end}"
    page = ""
    if os.path.exists(path):
        with open(path) as file:
            page = file.read()
    at, until = page.find(begin), page.find(end)
    if (at < 0) != (until < 0) or until < at:
        raise SystemExit(f"{path}: one of the two markers of '{name}' is missing: '{begin}... -->' and '{end}'")
    page = page.rstrip() + f"\n\n{whole}\n" if at < 0 else page[:at] + whole + page[until + len(end):]
    with open(path + ".part", "w") as file:
        file.write(page.lstrip("\n"))
    os.replace(path + ".part", path)
