"""Questions in Spec-Bench's form (question_id, category, turns), 20 of a kind, for `espalier bench --prompts`:

  chat      MT-bench, both turns (Apache-2.0)
  code      HumanEval: complete a function (MIT)
  grounded  a passage of a book, to be summed up, or to be answered from by quoting it

  tools/speculation_questions.py mt_bench.question.jsonl HumanEval.jsonl.gz book.txt > benchmarks/questions.jsonl
"""
import gzip
import json
import re
import sys

PER_KIND = 20


def spread(items):
    return [items[i * len(items) // PER_KIND] for i in range(PER_KIND)]


def lines_of(path):
    opened = gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8")
    with opened as file:
        return [json.loads(line) for line in file]


def passages_of(path):
    """Stretches of whole paragraphs, about 250 words each."""
    with open(path, encoding="utf-8") as file:
        paragraphs = [re.sub(r"\s+", " ", p).strip() for p in re.split(r"\n\s*\n", file.read())]
    passages, current = [], ""
    for paragraph in (p for p in paragraphs if len(p.split()) > 12):
        current = f"{current}\n\n{paragraph}".strip()
        if len(current.split()) > 250:
            passages.append(current)
            current = ""
    return passages


def grounded(index, passage):
    if index % 2 == 0:
        return f"Sum up this text in a few sentences.\n\n{passage}"
    longest = max(passage.split("\n\n"), key=len)
    opening = " ".join(longest.split()[:6])
    return f"{passage}\n\nQuote, word for word, the paragraph of this text that begins with: {opening}"


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    chat, code, book = sys.argv[1:]
    questions = [("chat", q["turns"]) for q in spread(lines_of(chat))]
    for task in spread(lines_of(code)):
        questions.append(("code", [f"Complete this Python function.\n\n```python\n{task['prompt']}```"]))
    questions += [("grounded", [grounded(i, p)]) for i, p in enumerate(spread(passages_of(book)))]
    for number, (kind, turns) in enumerate(questions, 1):
        print(json.dumps({"question_id": number, "category": kind, "turns": turns}, ensure_ascii=False))


if __name__ == "__main__":
    main()
