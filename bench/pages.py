"""A measurement's document: JSON that is measured or read again, tables in Markdown, and a page's section between two markers."""
import json
import os


def add_options(parser):
    parser.add_argument("--out", help="also write the JSON here")
    parser.add_argument("--from", dest="source", metavar="FILE", help="the tables of such a JSON document, without a run")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables into this page (docs/goodput.md)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def document(args, run):
    """What run(args) measures, or what --from kept of it; also goes to --out."""
    if args.source:
        with open(args.source) as file:
            found = json.load(file)
    else:
        found = run(args)
    if args.out:
        with open(args.out, "w") as file:
            json.dump(found, file, indent=1)
    return found


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
