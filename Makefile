# The two commands: `make run` and `make test`.  Everything else is a part of them.
#
# Knobs: SUITE=trixie (the Debian of `make run`), KERNEL=debian or a path (another bootstrap kernel than our slim one),
# ARGS="..." (more arguments for `python -m qemu run` or pytest), ZFS=1 (boots a whole Debian from ZFS too; compiles
# OpenZFS once, 9 minutes on 2 cores), SYSTEMS=1 (ring 0 too: the releases that this machine is not, each in a bare
# root), POOLBOOT_ACCEL=tcg|kvm, POOLBOOT_CACHE=directory.

PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
# An emulated machine keeps one processor busy: as many test files at a time as there are processors, but no more than
# the memory of a small machine holds.
JOBS := $(shell n=$$(nproc); echo $$((n > 4 ? 4 : n)))
SPREAD := --numprocesses $(JOBS) --dist loadfile
SUITE ?= bookworm
LEFT_OUT := not firmware and not arm64 $(if $(ZFS),,and not zfs) $(if $(SYSTEMS),and not (systems and zfs),and not systems)
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help run test qemu-test systems fresh zfs-debian firmware-test arm64 unit-test fuzz lint bench image setup clean

help:
	@echo "make run        build the boot image, make a Debian on three btrfs disks, boot it in QEMU"
	@echo "make test       lint, unit tests, images made by the real tools, boots in QEMU"
	@echo "make unit-test  only the tests that need no QEMU"
	@echo "make qemu-test  only the boots (ZFS=1: a whole Debian from ZFS too; what make test leaves out)"
	@echo "make systems    ring 0: set-up, program, tests, lint and a boot, in a bare root of each supported release"
	@echo "make fresh      SUITE=trixie: set-up, make run and make test in a bare root, with nothing cached"
	@echo "make firmware-test  the EFI file: disk, ISO, Secure Boot, Path C (not part of make test)"
	@echo "make arm64      cross-build kernel and program, boot them in an emulated arm64 machine (not part of make test)"
	@echo "make fuzz       look for inputs that break a parser, for SECONDS=600 (ARGS=\"bls fat\": these targets)"
	@echo "make lint       ruff and mypy --strict"
	@echo "make bench      measure against the budgets"
	@echo "make image      build/vmlinuz and build/initramfs.cpio.zst"
	@echo "make clean      remove build/ (the cache in ~/.cache/poolboot stays)"

setup:
	@./setup.sh

run: setup
	@$(PYTHON) -m qemu run --suite $(SUITE) $(if $(KERNEL),--kernel $(KERNEL)) $(ARGS)

test: setup lint image $(if $(ZFS),zfs-debian)
	$(PYTEST) $(SPREAD) -m "$(LEFT_OUT)" tests $(ARGS)

qemu-test: setup image $(if $(ZFS),zfs-debian)
	$(PYTEST) $(SPREAD) -m "boot $(if $(ZFS),or zfs)" tests/boot $(ARGS)

# RELEASES=trixie: that one alone.
systems: setup image
	$(PYTEST) -m "systems $(if $(ZFS),,and not zfs)" --releases $(or $(RELEASES),all) tests/systems $(ARGS)

# With PARTS="setup run" less than everything.
fresh: setup
	$(PYTHON) tests/systems fresh $(SUITE) $(PARTS) $(if $(KERNEL),KERNEL=$(KERNEL))

# Before the tests and alone on the machine: the longest thing that is ever made, and no test's time should count it.
zfs-debian: setup
	$(PYTHON) -m qemu.zfs_images

# Boots through OVMF some forty times, and compiles OpenZFS once: too long for every `make test`.
firmware-test: setup
	$(PYTEST) $(SPREAD) -m firmware tests/boot $(ARGS)

# Compiles a second kernel: as much as the first one took.
arm64:
	@./setup.sh --arm64
	$(PYTEST) -m arm64 tests/boot $(ARGS)

unit-test: setup
	$(PYTEST) -m "not boot and not images and not firmware and not arm64 and not zfs and not systems" tests $(ARGS)

# Alone on the machine: what takes a second here must take one everywhere.
SECONDS ?= 600
fuzz: setup
	@$(PYTHON) -c 'import atheris' 2>/dev/null || $(PYTHON) -m pip install --quiet --disable-pip-version-check \
	    --config-settings editable_mode=compat --editable '.[fuzz]'
	$(PYTHON) tests/fuzz --seconds $(SECONDS) $(ARGS)

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

bench: setup
	$(PYTHON) tests/bench $(ARGS)

image: setup
	$(PYTHON) build.py

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache
