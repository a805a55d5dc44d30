"""Names of images by content, on a small tree made here and on the project's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import host
from tools.images import tree

BASE = "ARG BASE=debian\nFROM ${BASE}\nUSER 65532:65532\n"
TORCH = """ARG PARENT=localhost/pilotboat/base
FROM ${PARENT}
COPY images/torch/requirements.txt /opt/
ARG CUDA
ARG CUDA_DRIVER
LABEL cuda=${CUDA}
"""
SERVER = """ARG PARENT=localhost/pilotboat/torch
FROM ${PARENT}
COPY operator/api /opt/api
COPY images/server/code /opt/code
ARG VERSION=0
ENTRYPOINT ["server"]
"""
FETCH = """ARG PARENT=localhost/pilotboat/base
FROM ${PARENT}
COPY --chmod=644 images/fetch/one.py images/fetch/two.py /opt/
ENTRYPOINT ["fetch"]
"""


def write(root: Path, path: str, text: str) -> Path:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return target


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in {"base": BASE, "torch": TORCH, "server": SERVER, "fetch": FETCH}.items():
        write(tmp_path, f"images/{name}/Containerfile", text)
    write(tmp_path, "pyproject.toml", '[project]\nversion = "1.2.3"\n')
    write(tmp_path, "images/torch/requirements.txt", "torch==2.0\nnvidia-cuda-runtime==13.2.86 ; linux\n")
    write(tmp_path, "operator/api/types.py", "A = 1\n")
    write(tmp_path, "images/server/code/app.py", "B = 1\n")
    write(tmp_path, "images/fetch/one.py", "")
    write(tmp_path, "images/fetch/two.py", "")
    return tmp_path


def changed(root: Path, path: str, text: str) -> set[str]:
    """The images whose references a change of one file changes."""
    before = tree.refs(root)
    write(root, path, text)
    after = tree.refs(root)
    return {name for name in after if after[name] != before[name]}


def test_parents_come_before_their_children(root: Path) -> None:
    order = list(tree.images(root))
    assert order.index("base") < order.index("torch") < order.index("server")


def test_an_unchanged_tree_keeps_every_reference(root: Path) -> None:
    assert tree.refs(root) == tree.refs(root)
    assert all(re.fullmatch(r"localhost/pilotboat/[a-z]+:[0-9a-f]{12}", ref) for ref in tree.refs(root).values())


def test_code_changes_only_the_image_that_copies_it(root: Path) -> None:
    assert changed(root, "images/server/code/app.py", "B = 2\n") == {"server"}
    assert changed(root, "operator/api/new.py", "C = 1\n") == {"server"}
    assert changed(root, "images/fetch/two.py", "D = 1\n") == {"fetch"}


def test_an_image_changes_with_those_that_it_stands_on(root: Path) -> None:
    assert changed(root, "images/torch/Containerfile", TORCH + "ENV A=1\n") == {"torch", "server"}
    assert changed(root, "images/base/Containerfile", BASE + "ENV A=1\n") == {"base", "torch", "server", "fetch"}


def test_what_no_image_copies_changes_none(root: Path) -> None:
    assert changed(root, "docs/guide.md", "words") == set()
    assert changed(root, "operator/engine/queue.py", "E = 1\n") == set()


def test_byte_code_and_hidden_files_are_not_part_of_an_image(root: Path) -> None:
    assert changed(root, "images/server/code/__pycache__/app.cpython-311.pyc", "x") == set()
    assert changed(root, "images/server/code/.swap", "x") == set()


def test_the_executable_bit_is_part_of_an_image(root: Path) -> None:
    before = tree.refs(root)
    (root / "images/server/code/app.py").chmod(0o755)
    assert tree.refs(root)["server"] != before["server"]


def test_a_renamed_file_changes_the_image(root: Path) -> None:
    before = tree.refs(root)
    (root / "images/server/code/app.py").rename(root / "images/server/code/main.py")
    assert tree.refs(root)["server"] != before["server"]


def test_the_version_reaches_only_images_that_state_it(root: Path) -> None:
    assert changed(root, "pyproject.toml", '[project]\nversion = "1.2.4"\n') == {"server"}


def test_another_base_changes_everything(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree.refs(root)
    monkeypatch.setenv("PILOTBOAT_BASE", "registry.example.com/debian:trixie")
    after = tree.refs(root)
    assert all(before[name] != after[name] for name in before)


def test_the_cuda_labels_come_from_the_pinned_requirements(root: Path) -> None:
    given = tree.arguments(root, tree.images(root)["torch"], {"base": "the-base"})
    assert given == {"PARENT": "the-base", "CUDA": "13.2", "CUDA_DRIVER": "580.65.06"}


def test_a_build_sees_what_was_hashed_and_nothing_else(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    write(root, "images/server/secret.env", "KEY=1")
    write(root, "images/server/code/__pycache__/app.pyc", "x")
    context = tmp_path_factory.mktemp("context")
    tree.stage(root, tree.images(root)["server"], context)
    staged = {str(path.relative_to(context)) for path in context.rglob("*") if path.is_file()}
    assert staged == {"images/server/Containerfile", "images/server/code/app.py", "operator/api/types.py"}


def test_a_snapshot_has_the_references_of_its_tree(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    taken = tmp_path_factory.mktemp("snapshot")
    before = tree.refs(root)
    tree.snapshot(root, taken)
    write(root, "images/server/code/app.py", "changed later")
    assert tree.refs(taken) == before != tree.refs(root)


def test_only_images_with_an_entry_point_ship(root: Path) -> None:
    assert {name for name, image in tree.images(root).items() if image.ships} == {"server", "fetch"}


def test_a_missing_source_is_named(root: Path) -> None:
    (root / "images/fetch/one.py").unlink()
    with pytest.raises(tree.TreeError, match=r"images/fetch/one\.py"):
        tree.refs(root)


def test_a_missing_parent_is_named(root: Path) -> None:
    (root / "images/torch/Containerfile").unlink()
    with pytest.raises(tree.TreeError, match="images/torch"):
        tree.refs(root)


def test_the_projects_own_images_run_as_nobody_in_particular() -> None:
    own = tree.images()
    assert {"server", "trainer", "fetch", "operator"} <= {name for name, image in own.items() if image.ships}
    for image in own.values():
        users = re.findall(r"^USER (.+)$", image.containerfile, re.MULTILINE)
        assert not image.ships or users[-1] == "65532:65532", image.name


def test_every_supported_cuda_has_a_driver() -> None:
    assert tree.cuda(host.ROOT).split(".")[0] in tree.DRIVERS
