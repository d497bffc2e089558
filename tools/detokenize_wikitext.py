"""detokenize_wikitext.py IN OUT: WikiText's spaced-out words as running text.

WikiText puts spaces around punctuation and marks hyphens and separators inside words as " @-@ ", " @,@ " and
" @.@ ". A pretrained model has never seen such text: perplexity on it measures the marks.
"""
import re
import sys

# In this order: the possessive of plurals, marks inside words, punctuation that clings to the word before it.
LITERAL = [("s '", "s'")]
LITERAL += [(f" @{mark}@ ", mark) for mark in "-,."]
LITERAL += [(f" {mark} ", f"{mark} ") for mark in ":;.!?,"]
# Opening and closing marks cling to what they enclose.
ENCLOSING = [("(", ")"), ("[", "]"), ("{", "}"), ('"', '"'), ("'", "'")]
# Headings are "= = Title = ="; degrees, line ends and the possessive stand apart.
LAST = [("= = = =", "===="), ("= = =", "==="), ("= =", "=="), (" \u00b0 ", "\u00b0"), (" \n", "\n"), ("\n ", "\n"),
        (" 's", "'s")]


def detokenize(text):
    for old, new in LITERAL:
        text = text.replace(old, new)
    for first, last in ENCLOSING:
        inside = rf"{re.escape(first)}\s*([^{re.escape(last)}]*?)\s*{re.escape(last)}"
        text = re.sub(inside, lambda match: first + match[1] + last, text)
    for old, new in LAST:
        text = text.replace(old, new)
    return text


if __name__ == "__main__":
    source, target = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        text = detokenize(file.read())
    with open(target, "w", encoding="utf-8") as file:
        file.write(text)
