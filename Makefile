# One Makefile for the whole suite. `make help` says what there is.
# Flavours build in folders of their own: SANITIZE=address,undefined, SANITIZE=thread,
# VALGRIND=1 and DEBUG=1; any other with B=build/NAME, for example `make CC=clang B=build/clang`.

# A stage is a folder with facts. STAGES="..." chooses for `make bench`; all are built.
ifeq ($(origin STAGES),command line)
CHOSEN := $(STAGES)
endif
override STAGES := $(sort $(patsubst %/facts,%,$(wildcard stage*/facts)))
ifeq ($(origin CC),default)
CC := gcc
endif
PREFIX ?= /usr/local
NPROC := $(shell nproc)
comma := ,

ifdef SANITIZE
B := build/sanitize-$(subst $(comma),-,$(SANITIZE))
CFLAGS ?= -O1 -g -fno-omit-frame-pointer
FLAVOUR := -fsanitize=$(SANITIZE) -fno-sanitize-recover=all
else ifdef VALGRIND
B := build/valgrind
CFLAGS ?= -O1 -g
else ifdef DEBUG
B := build/debug
CFLAGS ?= -O0 -g3
else
B := build
CFLAGS ?= -O2 -g
endif

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror
ALL_CFLAGS = -std=gnu17 -D_GNU_SOURCE $(WARNINGS) -Icommon -Itests -MMD -MP $(FLAVOUR) $(CFLAGS)
ALL_LDFLAGS = $(FLAVOUR) $(LDFLAGS)
EVENT_LIBS = -levent_core -levent_extra

COMMON_SRC := $(wildcard common/*/*.c)
STAGE_SRC := $(foreach s,$(STAGES),$(wildcard $(s)/*.c $(s)/*.S))
TEST_SRC := $(wildcard tests/*/test_*.c)
FUZZ_SRC := $(wildcard tests/fuzz/*.c)
HARNESS_SRC := $(wildcard tests/harness/*.c)
BENCH_SRC := $(wildcard bench/*/*.c)
C_SRC := $(COMMON_SRC) $(filter %.c,$(STAGE_SRC)) $(wildcard tests/*/*.c) $(BENCH_SRC)
C_HDR := $(wildcard */*.h */*/*.h)
SH_SRC := $(wildcard */*.sh */*/*.sh .ci/run)
PY_SRC := $(wildcard */*.py */*/*.py)

obj = $(patsubst %.S,$(B)/obj/%.o,$(patsubst %.c,$(B)/obj/%.o,$(1)))
BIN := $(STAGES:%=$(B)/%)

# What is being made, in a word; the whole command with V=1.
say = @$(if $(V),:,echo '  $(1)')
Q := $(if $(V),,@)

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all FORCE

all: $(BIN) ## build the servers into build/; the same as make alone
	@:

# What was compiled with other flags, or by another compiler, is made anew.
FLAGS_FILE := $(B)/obj/flags
FLAGS_NOW := $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS)
ifneq ($(file <$(FLAGS_FILE)),$(FLAGS_NOW))
$(FLAGS_FILE): FORCE
endif
$(FLAGS_FILE):
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(FLAGS_NOW))' >$@

$(B)/obj/%.o: %.c $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,cc $<)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(B)/obj/%.o: %.S $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,as $<)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# common/ as one archive: a program takes what it needs. So where a stage has a function of a
# module of its own, in a file that has all of the module, the linker takes the stage's.
$(B)/obj/common.a: $(call obj,$(COMMON_SRC))
	$(call say,ar $@)
	$(Q)rm -f $@ && ar rcs $@ $^

# Words for the linker that only this stage needs stand in its facts.
link = $(shell sed -n 's/^link: //p' $(1)/facts)

define stage_rule
$(B)/$(1): $(call obj,$(wildcard $(1)/*.c $(1)/*.S)) $(B)/obj/common.a
	$$(call say,ld $$@)
	$$(Q)$$(CC) $$(ALL_LDFLAGS) -o $$@ $$^ $(call link,$(1))
endef
$(foreach s,$(STAGES),$(eval $(call stage_rule,$(s))))

# ---- Use ----------------------------------------------------------------------------------

.PHONY: help debug setup demo install uninstall clean
FRAGMENTS = $(filter Makefile %.mk,$(MAKEFILE_LIST))

help: ## print this
	@sed -n 's/^\([a-z0-9_.-]*\):[^#]*## /\1\t/p' $(FRAGMENTS) | \
	  awk -F '\t' '{ printf "make %-21s  %s\n", $$1, $$2 }'
	@echo
	@sed -n 's/^## \([A-Z]*\) /  \1\t/p' $(FRAGMENTS) | \
	  awk -F '\t' '{ printf "%-26s  %s\n", $$1, $$2 }'

## CC compiler: gcc (default) or clang
## SANITIZE of gcc and clang: make test SANITIZE=address,undefined, or thread
## VALGRIND 1: make test VALGRIND=1
## DEBUG 1: as make debug; make one T=conn DEBUG=1
## B folder that is built into: make CC=clang B=build/clang
## V 1: show the commands that are run
## PREFIX where to install: make install PREFIX=$HOME/.local
## DESTDIR put before PREFIX, for makers of packages

debug: ## build all for a debugger, with -O0 -g3, into build/debug/
	@$(MAKE) --no-print-directory $(PARALLEL) DEBUG=1 programs

setup: ## install all that the targets here need
	@common/setup/setup.sh build test valgrind lint fuzz bench docs

# What needs set-up gets it first, and then a make of its own: this one has asked pkg-config
# before there was any. It works in parallel unless the user said how.
PARALLEL = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(NPROC))

demo: ## set up, build, show each server answering a client
	@common/setup/setup.sh build test
	@$(MAKE) --no-print-directory $(PARALLEL) all
	@common/setup/demo.sh $(BIN)

# systemd's units, of a stage that has some.
UNIT_SRC := $(wildcard $(STAGES:%=%/*.service.in) $(STAGES:%=%/*.socket))
UNITS = $(DESTDIR)$(PREFIX)/lib/systemd/system
install: all ## install the servers into DESTDIR/PREFIX/bin
	install -d $(DESTDIR)$(PREFIX)/bin
	install $(BIN) $(DESTDIR)$(PREFIX)/bin
	install -d $(UNITS)
	for unit in $(UNIT_SRC); do file=$${unit##*/}; \
	  sed 's,@BINDIR@,$(PREFIX)/bin,' $$unit >$(UNITS)/$${file%.in}; done

uninstall: ## remove what install installed
	rm -f $(STAGES:%=$(DESTDIR)$(PREFIX)/bin/%) $(patsubst %.in,%,$(addprefix $(UNITS)/,$(notdir $(UNIT_SRC))))

clean: ## remove all that was made
	rm -rf build compile_commands.json

# In this order: what is tested needs to know what measures.
include bench/bench.mk tests/tests.mk docs/docs.mk style.mk

-include $(patsubst %.o,%.d,$(call obj,$(C_SRC) $(STAGE_SRC))) $(patsubst %.c,build/fuzz/obj/%.d,$(COMMON_SRC) $(FUZZ_SRC))
