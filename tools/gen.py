"""Writes every generated file: CRDs, the chart's copy of them, the references of both, the list of reasons, the
dashboard.

Owns: where generated files lie. Must not know: what is in them (pilotboat.api, tools/{chartvalues,dashboard}.py do).
`--check` writes nothing and fails on drift.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "operator")]

# The path above makes these importable without an install.
from pilotboat.api import crd, reference  # noqa: E402
from tools import chartvalues, dashboard  # noqa: E402

CHART_HEAD = "{{- if .Values.crds.install }}\n"
CHART_TAIL = "{{- end }}\n"


def generated() -> dict[Path, str]:
    """Path to content of every generated file."""
    files: dict[Path, str] = {
        ROOT / "docs" / "crd-reference.md": reference.crds(),
        ROOT / "docs" / "reasons.md": reference.reasons(),
        ROOT / "docs" / "chart-values.md": chartvalues.page(),
        ROOT / "charts" / "pilotboat" / "files" / "dashboard.json": dashboard.render(),
    }
    for kind in crd.KINDS:
        text = crd.render(kind)
        files[ROOT / "crds" / f"{kind.plural}.yaml"] = text
        kept = text.replace("metadata:\n", "metadata:\n  annotations:\n    helm.sh/resource-policy: keep\n", 1)
        files[ROOT / "charts" / "pilotboat" / "templates" / f"crd-{kind.plural}.yaml"] = CHART_HEAD + kept + CHART_TAIL
    return files


def main(argv: list[str]) -> int:
    """Write the files, or with --check name those that differ and return 1."""
    stale = [path for path, text in generated().items() if not path.exists() or path.read_text() != text]
    if "--check" in argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date: run `make gen`")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(generated()[path])
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
