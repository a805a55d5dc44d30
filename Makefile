# Each target is a line or two; the work is in tools/, tests/lab and Python.
PYTHON ?= python3
VENV_PYTHON = .venv/bin/python
# Not named LAB, which is the environment's word for which lab is meant.
RUN_LAB = PYTHONPATH=tests $(PYTHON) -m lab

.PHONY: demo demo-down test check soak images gen bench bench-abort bench-canary bench-gateway bench-recovery bench-regions lab lab-down lab-v2 kubeconfig venv requirements

demo: ; @$(PYTHON) -m tools.demo
demo-down: ; @$(PYTHON) -m tools.demo down

test: ; @$(PYTHON) -m tools.test
soak: ; @SOAK_MINUTES=$${SOAK_MINUTES:-30} $(PYTHON) -m tools.test soak
check: venv ; @$(PYTHON) -m tools.test check

images: ; @$(PYTHON) -m tools.images build
gen: venv ; @$(VENV_PYTHON) -m tools.gen
bench: ; @$(PYTHON) -m tools.bench
bench-abort: ; @$(PYTHON) -m tools.bench abort
bench-canary: ; @$(PYTHON) -m tools.bench canary
bench-gateway: ; @$(PYTHON) -m tools.bench gateway
bench-recovery: ; @$(PYTHON) -m tools.bench recovery
bench-regions: ; @$(PYTHON) -m tools.bench regions

lab: ; @$(RUN_LAB) up
lab-down: ; @$(RUN_LAB) down
lab-v2: ; @PYTHONPATH=tests $(PYTHON) -m lab.vm
kubeconfig: ; @$(RUN_LAB) kubeconfig

venv: ; @$(PYTHON) -m tools.venv
requirements: ; @$(PYTHON) -m tools.requirements
