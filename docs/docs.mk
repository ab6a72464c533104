# The tutorial: its site, its pictures, the check of it. Included by the Makefile.
# Does not: know what a document says.

## CHAPTER of make predict: make predict CHAPTER=3
## DOC one document: make docs-check DOC=docs/3-select.md

.PHONY: docs pictures docs-check docs-update predict

docs: ## make a site of the tutorial: build/docs/index.html
	@common/setup/setup.sh docs
	@python3 docs/tools/website.py

pictures: ## draw docs/pictures/ anew
	@python3 docs/tools/pictures.py

docs-check: ## run every command of docs/; compare excerpts, figures
	@common/setup/setup.sh build test bench docs
	@$(MAKE) --no-print-directory $(PARALLEL) programs
	@python3 docs/tools/check.py $(DOC)

docs-update: ## pull excerpts and figures into docs/ anew
	@python3 docs/tools/check.py --update $(DOC)

predict: ## ask what the chapters ask, measure, score the answers
	@common/setup/setup.sh build test bench
	@$(MAKE) --no-print-directory $(PARALLEL) bench-programs
	@python3 docs/tools/predict.py --build $(B) $(if $(CHAPTER),--chapter $(CHAPTER))
