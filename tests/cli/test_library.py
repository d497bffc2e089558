"""The installed package: found from another folder, by CMake and by pkg-config, without torch, with headers that stand
alone."""
import os
import shutil
import subprocess

import pytest
from conftest import BINARY, MODEL, ROOT, generate

PROMPT = "The sea is"


def command(*arguments, **options):
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("installed")
    command("cmake", "--install", BINARY.parent, "--prefix", prefix)
    return prefix


@pytest.fixture(scope="module")
def library(installed):
    return next(installed.rglob("libespalier.so")).parent


@pytest.fixture(scope="module")
def examples(installed, tmp_path_factory):
    source, build = tmp_path_factory.mktemp("elsewhere") / "source", tmp_path_factory.mktemp("build")
    shutil.copytree(ROOT / "examples/library", source)
    command("cmake", "-S", source, "-B", build, f"-DCMAKE_PREFIX_PATH={installed}", "-DCMAKE_CXX_FLAGS=-Wall -Wextra -pedantic -Werror")
    command("cmake", "--build", build)
    return build


def test_hello_generate_writes_what_the_program_writes(examples):
    text = command(examples / "hello_generate", MODEL, PROMPT)
    assert text == generate("--prompt", PROMPT, "--max-tokens", 40)["text"] + "\n"


def test_states_fork_and_come_back_from_a_file(examples, tmp_path):
    text = command(examples / "states", MODEL, tmp_path / "fork.state")
    assert text.endswith("From the file: the same tokens\n")
    sizes = {line.split()[-2] for line in text.splitlines() if "state of" in line}
    assert len(sizes) == 1  # a window's state does not grow
    assert [p.name for p in tmp_path.iterdir()] == ["fork.state"]


def test_errors_cross_the_library(examples, tmp_path):
    done = subprocess.run([examples / "hello_generate", tmp_path / "none.gguf", "x"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: [") and done.stderr.count("\n") == 1


def test_pkg_config_finds_it(installed, library, tmp_path):
    environment = dict(os.environ, PKG_CONFIG_PATH=str(library / "pkgconfig"))
    flags = command("pkg-config", "--cflags", "--libs", "espalier", env=environment).split()
    source = ROOT / "examples/library/hello_generate.cpp"
    command("c++", "-std=c++20", source, *flags, f"-Wl,-rpath,{library}", "-o", tmp_path / "hello")
    assert "not found" not in command("ldd", tmp_path / "hello")


def test_the_library_needs_no_torch_and_shows_its_headers_alone(library):
    needed = command("ldd", library / "libespalier.so")
    assert "torch" not in needed and "not found" not in needed
    symbols = command("nm", "-DC", "--defined-only", library / "libespalier.so").splitlines()
    shown = {line.split(maxsplit=2)[2] for line in symbols if line}
    assert any(name.startswith("espalier::generate(") for name in shown)
    inside = [name for name in shown if "espalier::Generator" in name or "hwy::" in name or "nlohmann" in name]
    assert inside == []


@pytest.mark.parametrize("header", sorted(p.name for p in (ROOT / "include/espalier").glob("*.h")))
def test_a_header_compiles_alone(header, tmp_path):
    source = tmp_path / "alone.cpp"
    source.write_text(f'#include "espalier/{header}"\n')
    command("c++", "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{ROOT}/include", source)
    text = (ROOT / "include/espalier" / header).read_text()
    assert not any(word in text for word in ["torch/", "hwy/", "nlohmann", "boost"])
