# Style: clang-format, clang-tidy, cppcheck, shellcheck, and what tells them how C is compiled.
# Included by the Makefile. Does not: mend anything but for `make format`.

.PHONY: lint format lint-format lint-tidy lint-cppcheck lint-sh lint-python dry-compile
LINTS := lint-format lint-tidy lint-cppcheck lint-sh $(if $(PY_SRC),lint-python)

lint: ## set up; clang-format, clang-tidy, cppcheck, shellcheck, pyflakes, mypy
	@common/setup/setup.sh build test lint
	@$(MAKE) --no-print-directory compile_commands.json
	@$(MAKE) --no-print-directory -k $(LINTS)
	@echo 'lint: nothing to complain about'

lint-format:
	@echo 'clang-format: $(words $(C_SRC) $(C_HDR)) files'
	@printf '%s\n' $(C_SRC) $(C_HDR) | xargs -P $(NPROC) -n 1 sh -c \
	  'clang-format --dry-run -Werror "$$0" 2>/dev/null || { echo "$$0: see make format"; exit 1; }'

# One file at a time and all processors; what is wrong with a file is printed in one piece.
TIDY_TESTS := -cert-err34-c,-bugprone-suspicious-missing-comma,-bugprone-macro-parentheses,$\
  -bugprone-reserved-identifier,-readability-inconsistent-declaration-parameter-name,$\
  -clang-analyzer-security.insecureAPI.strcpy,-readability-function-size
lint-tidy:
	@echo 'clang-tidy: $(words $(C_SRC)) files'
	@printf '%s\n' $(C_SRC) | xargs -P $(NPROC) -n 1 sh -c ' \
	  case $$0 in tests/*) spare=$(TIDY_TESTS) ;; esac; \
	  out=$$(clang-tidy -p . --quiet --checks="$$spare" "$$0" 2>&1) || \
	  { printf "%s\n" "$$out" | grep -v "warnings.* generated"; exit 1; }'

lint-cppcheck:
	@echo 'cppcheck: $(words $(C_SRC)) files'
	@cppcheck -q -j $(NPROC) --error-exitcode=1 --enable=warning,performance,portability \
	  --inline-suppr --std=c11 --suppress=missingIncludeSystem \
	  --suppress='memleakOnRealloc:tests/*' \
	  -D_GNU_SOURCE -Icommon -Itests $(C_SRC)

lint-sh:
	@echo 'shellcheck: $(words $(SH_SRC)) files'
	@shellcheck $(SH_SRC)

# As on Debian and Ubuntu: pyflakes and mypy are commands there, and no modules of any other python.
lint-python:
	@echo 'pyflakes, mypy: $(words $(PY_SRC)) files'
	@pyflakes3 $(PY_SRC)
	@mypy --no-error-summary

format: ## format all C files
	@common/setup/setup.sh lint
	clang-format -i $(C_SRC) $(C_HDR)

# For clang-tidy and editors: the very commands that make would run, read from a dry run.
dry-compile: $(call obj,$(filter-out $(FUZZ_SRC),$(C_SRC))) $(call fuzz_obj,$(FUZZ_SRC))
compile_commands.json: FORCE ## tell editors how each file is compiled
	@$(MAKE) -Bn --no-print-directory dry-compile | sed -e '/ -c -o /!d' -e 's/[\\"]/\\&/g' \
	  -e 's|.* \([^ ]*\.c\)$$|{ "directory": "$(CURDIR)", "file": "\1", "command": "&" },|' | \
	  sed -e '1s/^/[/' -e '$$s/,$$/]/' >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
