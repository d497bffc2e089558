"""`bench --prompts`: the answers of Spec-Bench's schema, the same texts both ways, clear errors."""
import json

import pytest
from conftest import MODEL, ROOT, error_line, generate, run, run_json

QUESTIONS = [
    {"question_id": 7, "category": "b", "turns": ["Count from 1 to 30.", "And backwards?"]},
    {"question_id": 3, "category": "a", "turns": ["Say \"yes\" ten times."]},
    {"question_id": 4, "category": "a", "turns": ["Name a colour."]},
]  # fmt: skip


@pytest.mark.slow
def test_answers_are_those_of_generate(tmp_path):
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps(q) for q in QUESTIONS) + "\n\n")
    bench = ("bench", MODEL, "--prompts", tmp_path / "q.jsonl", "--answers", tmp_path / "answers", "--max-tokens", 40)
    for temperature in (0, 0.7):
        [found] = run_json(*bench, "--json", "--temperature", temperature)
        assert {kind: line["questions"] for kind, line in found["categories"].items()} == {"a": 2, "b": 1}
        for line in found["categories"].values():
            product = line["tokens_per_step"] / line["step_ratio"]
            speeds = line["speculated_tokens_per_second"] / line["tokens_per_second"]
            assert abs(product / speeds - 1) < 1e-6
            assert line["ratio_quartiles"][0] <= line["ratio"] <= line["ratio_quartiles"][1]
        off, auto = (
            [json.loads(line) for line in (tmp_path / "answers" / f"{mode}.jsonl").read_text().splitlines()]
            for mode in ("off", "auto")
        )
        for question, plain, speculated in zip(QUESTIONS, off, auto, strict=True):
            assert plain["question_id"] == speculated["question_id"] == question["question_id"]
            [a], [b] = plain["choices"], speculated["choices"]
            assert a["turns"] == b["turns"] and a["new_tokens"] == b["new_tokens"]
            assert len(a["wall_time"]) == len(question["turns"]) and plain["answer_id"] != speculated["answer_id"]
            # A turn's first token comes with its prompt.
            assert sum(a["accept_lengths"]) == sum(a["new_tokens"]) - len(question["turns"]) == sum(b["accept_lengths"])
            assert len(b["accept_lengths"]) == sum(b["decoding_steps"]) and set(a["accept_lengths"]) <= {1}
            first = generate("--chat", "--prompt", question["turns"][0], "--max-tokens", 40, "--temperature", temperature)
            assert first["text"] == a["turns"][0]


def test_a_question_that_is_too_long_is_left_out():
    long = {"question_id": 9, "category": "c", "turns": ["x " * 400]}
    bench = ("bench", MODEL, "--prompts", "-", "--max-tokens", 4, "--max-context", 200, "--json")
    done = run(*bench, stdin="\n".join(map(json.dumps, [long, *QUESTIONS])))
    assert set(json.loads(done.stdout)["categories"]) == {"a", "b"} and "question 9" in done.stderr
    [none] = run_json("bench", MODEL, "--prompts", "-", "--max-tokens", 0, "--json", stdin=json.dumps(QUESTIONS[2]))
    assert none["categories"]["a"]["questions"] == 0


@pytest.mark.slow
def test_table_is_one_line_per_kind():
    questions = (ROOT / "benchmarks/questions.jsonl").read_text().splitlines()
    assert len(questions) == 60
    bench = ("bench", MODEL, "--prompts", "-", "--max-tokens", 8)
    lines = run(*bench, stdin=questions[0] + "\n" + questions[25]).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["kind", "chat", "code"]
    assert {line.count("\t") for line in lines} == {8}


def test_what_is_no_question_is_named():
    bench = ("bench", MODEL, "--prompts", "-")
    good = json.dumps(QUESTIONS[0])
    for bad in ("{", "[]", "{}", json.dumps(QUESTIONS[0] | {"turns": []}), json.dumps(QUESTIONS[0] | {"turns": [1]}),
                json.dumps(QUESTIONS[0] | {"question_id": "7"}), json.dumps(QUESTIONS[0] | {"category": None})):  # fmt: skip
        assert "-:2" in error_line(*bench, stdin=good + "\n" + bad, code=1)
    assert "question" in error_line(*bench, stdin="\n", code=1)
    assert "--prompts" in error_line("bench", MODEL, "--answers", "x", code=2)
    assert "--speculate" in error_line(*bench, "--speculate", "off", stdin=good, code=2)
    assert "nothing.jsonl" in error_line("bench", MODEL, "--prompts", "nothing.jsonl", code=1)
