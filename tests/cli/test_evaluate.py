"""`evaluate` against transformers; `inspect` and `bench`."""
import math

import pytest
import torch
from conftest import DATA, MODEL, error_line, run, run_json

BOOK = DATA / "novel.txt"
TOKENS = 1536


def evaluate(task, *options):
    [found] = run_json("evaluate", MODEL, "--task", task, "--data", BOOK, "--json", *options)
    assert found["task"] == task and found["n"] > 0 and found["seconds"] > 0
    return found


def documented_perplexity(model, ids, context, stride):
    """The loop of transformers' page "Perplexity of fixed-length models"."""
    loss, count, previous_end = 0.0, 0, 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + context, ids.shape[1])
        window = ids[:, begin:end]
        labels = window.clone()
        labels[:, : -(end - previous_end)] = -100
        valid = int((labels[:, 1:] != -100).sum())
        with torch.no_grad():
            loss += float(model(window, labels=labels).loss.double()) * valid
        count += valid
        previous_end = end
        if end == ids.shape[1]:
            break
    return math.exp(loss / count), count


@pytest.mark.slow
@pytest.mark.parametrize("context,stride", [(512, 512), (512, 384)])
def test_perplexity_is_that_of_transformers(context, stride, reference):
    model, tokenizer = reference
    ids = tokenizer(BOOK.read_text(), return_tensors="pt").input_ids[:, :TOKENS]
    expected, count = documented_perplexity(model, ids, context, stride)
    found = evaluate(
        "perplexity", "--context", context, "--stride", stride, "--tokens", TOKENS, "--weights", "f32"
    )
    assert found["n"] == count
    assert f"{found['metric']['perplexity']:.4g}" == f"{expected:.4g}"


def test_perplexity_by_position_and_offset_adds_up():
    found = evaluate("perplexity", "--context", 256, "--tokens", 600, "--bucket", 64, "--attention", "window(group=32)")
    for ranges in (found["metric"]["by_position"], found["metric"]["by_offset"]):
        loss = sum(row["n"] * math.log(row["perplexity"]) for row in ranges)
        assert sum(row["n"] for row in ranges) == found["n"]
        assert math.exp(loss / found["n"]) == pytest.approx(found["metric"]["perplexity"], rel=1e-9)
    assert [row["from"] for row in found["metric"]["by_position"]] == [0, 64, 128, 192]
    assert len(found["metric"]["by_offset"]) == 8


@pytest.mark.slow
def test_agreement_with_itself_and_with_a_window():
    same = evaluate("agreement", "--context", 256, "--tokens", 256)["metric"]
    assert same["top1_agreement"] == 1 and same["kl"] == 0
    window = evaluate("agreement", "--context", 256, "--tokens", 256, "--attention", "window(group=16)")["metric"]
    assert 0.3 < window["top1_agreement"] < 1 and window["kl"] > 0.01
    assert window["teacher_perplexity"] == same["perplexity"] < window["perplexity"]


@pytest.mark.slow
def test_recall_tells_softmax_from_a_window():
    options = ["--copy-tokens", 48, "--gap-tokens", 96, "--trials", 3, "--probes", 3]
    softmax = evaluate("recall", *options)["metric"]
    window = evaluate("recall", *options, "--attention", "window(group=16)")["metric"]
    assert softmax["second_copy_perplexity"] < 3 < window["second_copy_perplexity"]
    assert softmax["copy_share"] > window["copy_share"]


def test_human_output_names_the_figures():
    done = run("evaluate", MODEL, "--data", BOOK, "--tokens", 100, "--context", 64)
    assert done.stdout.startswith("perplexity ") and "by position" in done.stdout
    assert "100 %" in done.stderr


def test_inspect_lists_every_attention():
    [found] = run_json("inspect", "--attentions", "--json")
    cards = {card["name"]: card for card in found["attentions"]}
    known = error_line("generate", MODEL, "--prompt", "x", "--attention", "telepathy", code=2)
    assert all(name in known for name in cards)
    [group, sinks] = cards["hybrid"]["options"]
    assert group["default"] == "64" and group["range"] == [1, 4096] and sinks["name"] == "sinks"
    assert cards["cosformer"]["options"][0]["default"] is None
    assert cards["augmented"]["options"][0]["choices"] == "blocked|terraced|none"
    text = run("inspect", "--attentions").stdout
    assert all(card["summary"] in text and card["paper"] in text for card in cards.values())
    assert "MODEL is required" in error_line("inspect", code=2)


def test_inspect_counts_parameters_and_state():
    [softmax] = run_json("inspect", MODEL, "--json")
    assert softmax["family"] == "llama" and softmax["parameters"] == 134_515_008
    assert softmax["attention"] == ["softmax"] * 30 and not softmax["constant_state"]
    per_token = 30 * 3 * 64 * 2 * 4
    assert softmax["state_bytes"]["8000"] - softmax["state_bytes"]["200"] == 7800 * per_token
    [window] = run_json("inspect", MODEL, "--json", "--attention", "window")
    assert window["constant_state"] and len(set(window["state_bytes"].values())) == 1
    text = run("inspect", MODEL).stdout
    assert "llama" in text and "weights" in text and "state" in text


def test_verbose_prints_the_memory_plan():
    done = run("generate", MODEL, "--prompt", "a", "--max-tokens", 1, "--verbose")
    assert done.stderr.startswith("memory: weights 256.6 MiB (bf16), state ")


@pytest.mark.slow
def test_bench_keys():
    [found] = run_json("bench", MODEL, "--prefill-tokens", 32, "--decode-tokens", 2, "--repeats", 1, "--json")
    assert found["prefill_tokens_per_second"] > 0 and found["decode_tokens_per_second"] > 0
    assert list(map(int, found["verify_ms"])) and set(found["verify_ms"]) == {"1", "2", "4", "8", "16", "32", "64"}
    assert 0 < found["decode_bandwidth_share"] < 1.5
