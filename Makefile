# make app               serve the page; the first time, draw bears and train on them
# make app DATA=folder   the same with a folder of class folders of your own
# make test              the tests: about eight minutes on two cores
# make test-all          every seed and every fault besides
PY  ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

app: .venv/app
	@$(BIN)/bearclf app $(if $(DATA),--data "$(DATA)",--demo) $(if $(PORT),--port $(PORT)) $(if $(ARCH),--arch $(ARCH))

test: .venv/dev
	@$(BIN)/python tests/run.py

test-all: .venv/dev
	@$(BIN)/python tests/run.py --all

notebooks: .venv/dev
	$(BIN)/nbdev-export && $(BIN)/nbdev-test --n-workers 1 --save && $(BIN)/nbdev-clean && $(BIN)/python nbs/readme.py

docs: .venv/dev
	$(BIN)/python nbs/docs.py

.venv/%: settings.ini setup.py
	@echo "Setting up Python packages in .venv. This takes a few minutes, once."
	@test -x $(BIN)/python || $(PY) -m venv .venv
	@$(BIN)/python -m pip install -e ".$(if $(filter dev,$*),[train$(,)dev])"
	@touch $@

, := ,
.PHONY: app test test-all notebooks docs
.SECONDARY:
