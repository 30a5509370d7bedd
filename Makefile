# make app               serve the page; the first time, draw bears and train on them
# make app DATA=folder   the same with a folder of class folders of your own
# make app IP=0.0.0.0    the same for the phones in the room, too
# make lab               JupyterLab, for the lessons
# make test              the tests: about a quarter of an hour on two cores
# make test-all          every seed and every fault besides
PY  ?= python3
BIN := .venv/bin
CPU := https://download.pytorch.org/whl/cpu
export PIP_DISABLE_PIP_VERSION_CHECK = 1

app: .venv/train
	@$(BIN)/bearclf app $(if $(DATA),--data "$(DATA)",--demo) $(if $(PORT),--port $(PORT)) $(if $(ARCH),--arch $(ARCH)) \
		$(if $(IP),--ip $(IP))

lab: .venv/train
	@$(BIN)/bearclf lab

test: .venv/dev
	@$(BIN)/python tests/run.py

test-all: .venv/dev
	@$(BIN)/python tests/run.py --all

notebooks: .venv/dev
	$(BIN)/nbdev-export && $(BIN)/nbdev-test --n-workers 1 --save && $(BIN)/nbdev-clean && $(BIN)/python nbs/readme.py

docs: .venv/dev
	$(BIN)/python nbs/docs.py

# Packages come by uv, which is fetched if it is not here, or by pip. CUDA is 3 GB that help only where its GPU is.
train_extras := [train]
dev_extras := [train,scale,dev]
.venv/%: settings.ini setup.py
	@echo "Setting up Python packages in .venv, once; this takes a minute or two."
	@test ! -e .venv/unfinished || rm -rf .venv
	@test -x $(BIN)/pip || $(PY) -m venv .venv
	@touch .venv/unfinished; trap 'exit 1' INT TERM; PATH="$$PATH:$(CURDIR)/$(BIN)"; \
	if test "$$(uname)" = Linux -a ! -e /proc/driver/nvidia && ! command -v nvidia-smi >/dev/null; then \
		if timeout 5 $(BIN)/python -c 'from urllib.request import urlopen; urlopen("$(CPU)/torch/")' 2>/dev/null; then \
			echo "There is no NVIDIA GPU here, so PyTorch comes without CUDA, from $(CPU)."; \
			export UV_TORCH_BACKEND=cpu PIP_EXTRA_INDEX_URL=$(CPU); \
		else echo "$(CPU) does not answer, so PyTorch comes from where the rest does, with 3 GB for GPUs."; fi; fi; \
	command -v uv >/dev/null || $(BIN)/pip install --quiet uv; \
	uv pip install --python $(BIN)/python --compile-bytecode --editable ".$($*_extras)" || { \
		echo "uv cannot do it here; pip does, which takes some minutes."; \
		$(BIN)/pip install --editable ".$($*_extras)"; }; \
	failed=$$?; cd .venv; test $$failed != 0 -a ! -e train -a ! -e dev || rm unfinished; exit $$failed
	@touch $@

.PHONY: app lab test test-all notebooks docs
.SECONDARY:
