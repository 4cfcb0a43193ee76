"""Curves as one SVG: panels in a row, the same policies in each."""
import math
from xml.sax.saxutils import escape

COLOURS = ("#7f7f7f", "#1f77b4", "#9467bd", "#ff7f0e", "#2ca02c", "#d62728", "#8c564b")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 420, 300, 56, 44, 34


def ticks(most, count=5):
    """Round numbers from 0 up to most."""
    rough = most / count
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    return [step * i for i in range(int(most / step) + 1)]


def panel(found, at, x_label, y_label):
    """at: where the panel begins, from the left."""
    points = [point for curve in found["curves"].values() for point in curve]
    most_x, most_y = max(x for x, _ in points) * 1.05, max(y for _, y in points) * 1.1 or 1

    def place(x, y):
        return at + LEFT + x / most_x * (WIDTH - LEFT - 12), HEIGHT - BOTTOM - y / most_y * (HEIGHT - BOTTOM - TOP)

    out = [f'<text x="{at + LEFT}" y="18" font-weight="bold">{escape(found["title"])}</text>']
    for value in ticks(most_y):
        x, y = place(0, value)
        out.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{at + WIDTH - 12}" y2="{y:.1f}" stroke="#ddd"/><text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in ticks(most_x):
        x, y = place(value, 0)
        out.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{value:.3g}</text>')
    for value, words in found["marks"]:
        x, y = place(value, 0)
        out.append(f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{y:.1f}" stroke="#999" stroke-dasharray="4 3"><title>{escape(words)}</title></line>')
    for colour, (name, curve) in zip(COLOURS, found["curves"].items()):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in curve))
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"><title>{escape(name)}</title></polyline>')
    out.append(f'<text x="{at + LEFT}" y="{HEIGHT - 8}">{escape(x_label)}; {escape(y_label)}</text>')
    return out


def write(path, panels, x_label, y_label):
    """panels: {"title", "curves": {name: [(x, y)]}, "marks": [(x, words)]}; marks stand dashed."""
    names = list(panels[0]["curves"])
    width, height = WIDTH * len(panels), HEIGHT + 24
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
           f'<rect width="{width}" height="{height}" fill="#fff"/>']
    for i, found in enumerate(panels):
        out += panel(found, WIDTH * i, x_label, y_label)
    for i, (colour, name) in enumerate(zip(COLOURS, names)):
        out.append(f'<rect x="{LEFT + 80 * i}" y="{HEIGHT + 6}" width="12" height="4" fill="{colour}"/><text x="{LEFT + 16 + 80 * i}" y="{HEIGHT + 13}">{escape(name)}</text>')
    with open(path, "w") as file:
        file.write("\n".join(out + ["</svg>", ""]))
