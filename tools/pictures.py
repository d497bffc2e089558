"""Remakes docs/pictures and README's table of attentions from what the program says.

    tools/pictures.py            draws; takes seconds
    tools/pictures.py --measure  measures docs/pictures/quality.tsv anew first; takes minutes
"""

import argparse
import csv
import html
import json
import math
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
ESPALIER = ROOT / "build/release/espalier"
PICTURES = ROOT / "docs/pictures"
MODEL = "models/smollm2-135m-instruct.gguf"
TABLE = "adapters/smollm2-135m-ngram/table.ngram"
LOLCATS = ["--adapter", "adapters/smollm2-135m-lolcats"]
PROMPT = "Write a Python function that returns the largest of three numbers."
TREE_NODES, MOST_TOKENS = 8, 4  # of the tree that is drawn

# The rows of quality.tsv: a name, a series of the plot, and what makes the model.
WINDOWS = (16, 32, 64, 128, 256)
MEASURED = [
    ("softmax", "teacher", ["--attention", "softmax"]),
    *[(f"window(group={group})", "window", ["--attention", f"window(group={group})"]) for group in WINDOWS],
    ("lolcats", "trained", LOLCATS),
    ("augmented", "trained", ["--adapter", "adapters/smollm2-135m-augmented"]),
]
QUALITY = ["--task", "perplexity", "--context", "1024", "--data", "tests/data/cli/novel.txt"]
COLUMNS = ["model", "series", "perplexity", "mib_at_1000", "mib_at_8000"]

INK, FAINT, GRID = "#1f2933", "#66727f", "#dde3e9"
GREEN, ORANGE, BLUE, PURPLE = "#1b7f4d", "#c2571a", "#2563ab", "#7a3e9d"


def espalier(verb, *arguments, stdin=None):
    done = subprocess.run([str(ESPALIER), verb, *arguments], cwd=ROOT, input=stdin, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"pictures: espalier {verb} {' '.join(arguments)}: {done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def state_mebibytes(model):
    """{tokens: MiB} of one sequence's state."""
    [found] = espalier("inspect", MODEL, "--json", *model)
    return {tokens: found["state_bytes"][str(tokens)] / 2**20 for tokens in sorted(map(int, found["state_bytes"]))}


def measure():
    with open(PICTURES / "quality.tsv", "w", encoding="utf-8") as file:
        print(f"# espalier evaluate {MODEL} {' '.join(QUALITY)}; espalier inspect. Made by tools/pictures.py --measure",
              file=file)  # fmt: skip
        print("\t".join(COLUMNS), file=file)
        for name, series, model in MEASURED:
            print(f"measuring {name}", file=sys.stderr)
            [quality] = espalier("evaluate", MODEL, "--json", *QUALITY, *model)
            state = state_mebibytes(model)
            row = [name, series, f"{quality['metric']['perplexity']:.2f}", f"{state[1000]:.1f}", f"{state[8000]:.1f}"]
            print("\t".join(row), file=file, flush=True)


# -- drawing


class Svg:
    def __init__(self, width, height, title):
        self.size, self.title, self.parts = (width, height), title, []

    def line(self, points, color, width=2, dash=""):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="{width}"'
                          + (f' stroke-dasharray="{dash}"' if dash else "") + "/>")  # fmt: skip

    def dot(self, x, y, color, radius=5):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{color}"/>')

    def box(self, x, y, width, height, fill, stroke, dash=""):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="5"'
                          f' fill="{fill}" stroke="{stroke}" stroke-width="1.5"'
                          + (f' stroke-dasharray="{dash}"' if dash else "") + "/>")  # fmt: skip

    def text(self, x, y, text, color=INK, size=13, anchor="start", weight="normal", family="sans-serif"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" font-size="{size}" text-anchor="{anchor}"'
                          f' font-weight="{weight}" font-family="{family}" xml:space="preserve">'
                          f"{html.escape(text)}</text>")  # fmt: skip

    def write(self, name):
        width, height = self.size
        head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
                f' height="{height}" role="img">\n<title>{html.escape(self.title)}</title>\n'
                f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>\n')  # fmt: skip
        (PICTURES / name).write_text(head + "\n".join(self.parts) + "\n</svg>\n", encoding="utf-8")


class Axes:
    """A frame at (x, y) of the picture; values go to places, linearly or by their logarithm."""

    def __init__(self, svg, frame, x_range, y_range, log=False):
        self.svg, self.frame, self.ranges, self.log = svg, frame, (x_range, y_range), log

    def share(self, axis, value):
        low, high = self.ranges[axis]
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return (value - low) / (high - low)

    def at(self, x, y):
        left, top, width, height = self.frame
        return left + width * self.share(0, x), top + height * (1 - self.share(1, y))

    def grid(self, x_ticks, y_ticks, x_label, y_label):
        left, top, width, height = self.frame
        for value in y_ticks:
            y = self.at(self.ranges[0][0], value)[1]
            self.svg.line([(left, y), (left + width, y)], GRID, 1)
            self.svg.text(left - 8, y + 4, f"{value:,}", FAINT, 12, "end")
        for value in x_ticks:
            x = self.at(value, self.ranges[1][0])[0]
            self.svg.line([(x, top + height), (x, top + height + 5)], FAINT, 1)
            self.svg.text(x, top + height + 19, f"{value:,}", FAINT, 12, "middle")
        self.svg.line([(left, top + height), (left + width, top + height)], FAINT, 1)
        self.svg.text(left + width / 2, top + height + 38, x_label, FAINT, 12, "middle")
        self.svg.text(left - 8, top - 12, y_label, FAINT, 12)


# -- state beside length, and a tree


def draw_state(svg, frame):
    axes = Axes(svg, frame, (0, 32000), (0, 1500))
    axes.grid([0, 8000, 16000, 24000, 32000], [0, 500, 1000, 1500], "tokens in the sequence", "state, MiB")
    grown, constant = state_mebibytes(["--attention", "softmax"]), state_mebibytes(LOLCATS)
    for state, color in ((grown, ORANGE), (constant, GREEN)):
        svg.line([axes.at(tokens, size) for tokens, size in state.items()], color, 3)
        for tokens, size in state.items():
            svg.dot(*axes.at(tokens, size), color, 4)
    end = max(grown)
    x, y = axes.at(end, grown[end])
    svg.text(x - 12, y + 4, f"softmax's cache: {grown[end]:,.0f} MiB", ORANGE, 13, "end", "bold")
    x, y = axes.at(end, constant[end])
    sizes = {f"{size:.1f}" for size in constant.values()}
    assert len(sizes) == 1, sizes
    svg.text(x, y - 12, f"lolcats: {sizes.pop()} MiB at any length", GREEN, 13, "end", "bold")


class NgramTable:
    """docs/formats/ngram.md; drafts as NgramDrafter makes them."""

    def __init__(self, path):
        data = path.read_bytes()
        self.next = {}
        place = 80
        counts = [int.from_bytes(data[place + 4 * i : place + 4 * i + 4], "little") for i in range(3)]
        width = 2 if int.from_bytes(data[12:16], "little") <= 65536 else 4
        place += 12

        def number(size):
            nonlocal place
            place += size
            return int.from_bytes(data[place - size : place], "little")

        for order, count in enumerate(counts, 1):
            for _ in range(count):
                context = tuple(number(width) for _ in range(order))
                self.next[context] = [(number(width), number(1) / 255) for _ in range(number(1))]

    def children(self, text):
        """{token: probability} after `text`: the longest known context first, each leaves the rest to the next."""
        scores, mass = {}, 1.0
        for order in (3, 2, 1):
            known = self.next.get(tuple(text[-order:]), [])
            for token, share in known:
                scores[token] = scores.get(token, 0) + mass * share
            mass *= 1 - sum(share for _, share in known)
        return scores


def grow_tree(table, text):
    """At most TREE_NODES nodes, the likeliest, root first: [(token, parent)]."""
    nodes, reached, waiting = [(text[-1], -1)], [(1.0, text)], []
    while len(nodes) < TREE_NODES:
        reach, path = reached[-1]
        waiting += [(reach * score, -len(waiting), token, len(nodes) - 1, path + [token])
                    for token, score in table.children(path).items()]  # fmt: skip
        if not waiting:
            break
        best = max(waiting)
        waiting.remove(best)
        nodes.append((best[2], best[3]))
        reached.append((best[0], best[4]))
    return nodes


def accepted(nodes, follows):
    """Indices of the nodes that hold what the model says, root first."""
    path = [0]
    for token in follows:
        child = [i for i, node in enumerate(nodes) if node == (token, path[-1])]
        if not child:
            return path
        path += child
    return path


def real_tree():
    """A tree of the reply, its accepted path, and the token that the model adds: of those that give at most
    MOST_TOKENS, the one that gives most; among equals the one with most branches."""
    [reply] = espalier("generate", MODEL, "--json", "--chat", "--prompt", PROMPT, "--max-tokens", "48",
                       "--speculate", "off")  # fmt: skip
    table = NgramTable(ROOT / TABLE)
    tokens, found = reply["tokens"], []
    for i in range(1, len(tokens) - TREE_NODES):
        nodes = grow_tree(table, reply["prompt_tokens"] + tokens[:i])
        path = accepted(nodes, tokens[i:])
        if len(nodes) == TREE_NODES and len(path) <= MOST_TOKENS:
            leaves = TREE_NODES - len({parent for _, parent in nodes[1:]})
            found.append((len(path), leaves, -i, nodes, path, tokens[i + len(path) - 1]))
    *_, nodes, path, added = max(found)
    lines = "".join(json.dumps([token]) + "\n" for token, _ in nodes + [(added, 0)])
    words = [line["text"] for line in espalier("tokenize", MODEL, "--decode", stdin=lines)]
    return [(word, parent) for word, (_, parent) in zip(words, nodes)], path, words[-1]


def shown(word):
    return word.replace(" ", "\u00b7").replace("\n", "\u21b5") or "\u2205"


def draw_tree(svg, left, top, column, row):
    nodes, path, added = real_tree()
    nodes = nodes + [(added, path[-1])]
    children = {i: [j for j, (_, parent) in enumerate(nodes) if parent == i] for i in range(len(nodes))}
    places, next_row = {}, 0

    def place(node, depth):
        nonlocal next_row
        own = next_row
        for number, child in enumerate(sorted(children[node], key=lambda c: c not in path and c != len(nodes) - 1)):
            if number:
                next_row += 1
            place(child, depth + 1)
        places[node] = (left + column * depth, top + row * own)

    place(0, 0)
    width, height = column - 18, 26
    for node in sorted(places, key=lambda node: node in path):  # what is taken lies above the rest
        (word, parent), (x, y) = nodes[node], places[node]
        last = node == len(nodes) - 1
        taken = node in path
        color = BLUE if last else GREEN if taken else FAINT
        if parent >= 0:
            from_x, from_y = places[parent]
            middle = x - 9
            svg.line([(from_x + width, from_y + height / 2), (middle, from_y + height / 2), (middle, y + height / 2),
                      (x, y + height / 2)], color, 2.5 if taken or last else 1.2, "5 3" if last else "")  # fmt: skip
        svg.box(x, y, width, height, "#e8f5ee" if taken else "#ffffff", color, "5 3" if last else "")
        weight = "bold" if taken or last else "normal"
        svg.text(x + width / 2, y + 17, shown(word), color, 12, "middle", weight, "monospace")
    return len(nodes) - 1, len(path), next_row


def draw_overview():
    svg = Svg(980, 400, "A cache that grows with the text, a state that does not; a tree verified in one step")
    svg.text(24, 32, "A state that does not grow", INK, 16, "start", "bold")
    draw_state(svg, (70, 76, 340, 240))
    left = 470
    svg.text(left, 32, "Several tokens from one step", INK, 16, "start", "bold")
    rows, taken, depth = draw_tree(svg, left, 84, 98, 38)
    y = 84 + 38 * depth + 66
    svg.text(left, y, f"One step of the model over {rows} rows: the last token and {rows - 1} drafts.", INK, 13)
    svg.text(left, y + 21, "Green: what plain decoding would have written. Grey: dropped.", INK, 13)
    svg.text(left, y + 42, f"Blue: the model's own next token. The step gives {taken} tokens, not 1.", INK, 13)
    source = "SmolLM2-135M-Instruct; state as espalier inspect says, drafts of the n-gram table that ships"
    svg.text(24, 386, source + " (\u00b7 space, \u21b5 line break)", FAINT, 11)
    svg.write("overview.svg")


# -- quality beside state


def read_quality():
    with open(PICTURES / "quality.tsv", encoding="utf-8") as file:
        return list(csv.DictReader((line for line in file if not line.startswith("#")), delimiter="\t"))


def draw_quality():
    rows = read_quality()
    svg = Svg(760, 430, "Perplexity beside the bytes of a sequence's state")
    svg.text(24, 32, "What a small state costs", INK, 16, "start", "bold")
    axes = Axes(svg, (64, 80, 560, 260), (2.5, 64), (22, 66), log=True)
    axes.grid([3, 5, 10, 20, 40], [24, 28, 32, 40, 50, 60], "MiB of one sequence's state after 1,000 tokens",
              "perplexity (lower is better)")  # fmt: skip
    colors = {"teacher": ORANGE, "window": BLUE, "trained": GREEN}
    points = [(row, axes.at(float(row["mib_at_1000"]), float(row["perplexity"]))) for row in rows]
    svg.line([point for row, point in points if row["series"] == "window"], BLUE, 2)
    for row, (x, y) in points:
        color = PURPLE if row["model"] == "augmented" else colors[row["series"]]
        svg.dot(x, y, color, 6)
        if row["series"] == "window":
            svg.text(x, y - 12, re.search(r"\d+", row["model"])[0], BLUE, 11, "middle")
        elif row["series"] == "teacher":
            svg.line([(x + 9, y), (x + 70, y), (x + 63, y - 5), (x + 70, y), (x + 63, y + 5)], color, 2)
            svg.text(x - 10, y - 14, "softmax, the teacher", color, 13, "middle", "bold")
            svg.text(x + 76, y - 3, f"{row['mib_at_8000']} MiB", color, 12)
            svg.text(x + 76, y + 12, "after 8,000", color, 12)
        else:
            below = row["model"] == "lolcats"
            svg.text(x + (-8 if below else 11), y + (18 if below else 5), f"{row['model']}, trained", color, 13,
                     "end" if below else "start", "bold")  # fmt: skip
    first = next(point for row, point in points if row["series"] == "window")
    svg.text(first[0] + 14, first[1] + 5, "window(group=G), no training", BLUE, 13, "start", "bold")
    source = "SmolLM2-135M-Instruct on a novel that no adapter was trained on, context 1024; docs/pictures/quality.tsv"
    svg.text(24, 416, source, FAINT, 11)
    svg.write("quality.svg")


# -- README's table


def write_attentions():
    [found] = espalier("inspect", "--attentions", "--json")
    lines = ["| attention | what it is | paper |", "|---|---|---|"]
    lines += [f"| `{card['name']}` | {card['summary']} | {card['paper']} |" for card in found["attentions"]]
    readme = ROOT / "README.md"
    begin, end = "<!-- attentions: make pictures -->\n", "<!-- end of attentions -->"
    before, rest = readme.read_text(encoding="utf-8").split(begin)
    after = rest.split(end)[1]
    readme.write_text(before + begin + "\n".join(lines) + "\n" + end + after, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="measure docs/pictures/quality.tsv anew first")
    if parser.parse_args().measure:
        measure()
    draw_overview()
    draw_quality()
    write_attentions()


if __name__ == "__main__":
    main()
