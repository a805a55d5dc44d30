"""docs/server.md says of each parameter what the engines say of themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pilotboat.api.runtime import ServerConfig
from pilotboat_server.engines import fake, llamacpp, transformers

PAGE = (Path(__file__).parents[3] / "docs" / "server.md").read_text()
OFFERED = [llamacpp.PARAMETERS, transformers.PARAMETERS, fake.PARAMETERS]


def rows() -> dict[str, list[str]]:
    """Parameter to what each engine's column says."""
    table = PAGE.partition("| parameter | LlamaCpp | Transformers | Fake |")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {name: columns for first, *columns in cells for name in re.findall(r"`(\w+)`", first)}


@pytest.mark.parametrize("name", sorted(llamacpp.PARAMETERS))
def test_the_matrix_is_what_the_engines_offer(name: str) -> None:
    assert [cell == "yes" for cell in rows()[name]] == [name in offered for offered in OFFERED]


def test_the_example_without_kubernetes_is_valid() -> None:
    text = PAGE.partition("```yaml\n")[2].partition("```")[0]
    assert len(text.splitlines()) <= 10
    assert ServerConfig.model_validate(yaml.safe_load(text)).service.workers == 2


def test_every_setting_is_on_the_page() -> None:
    for part in ("model", "engine", "inference", "service"):
        fields = ServerConfig.model_fields[part].annotation
        assert fields is not None
        for field in fields.model_fields.values():
            name = field.alias
            assert f"`{part}.{name}`" in PAGE or name in ("host", "port"), name
