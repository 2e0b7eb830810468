# The front door. What each of these does stands in script/.
.PHONY: demo test bench fuzz install format clean

demo: # from nothing to a pod on an edge node
	script/demo
test: # the gate: everything that must hold before a change lands
	script/test
bench: # the figures of docs/benchmarks.md
	script/bench
fuzz: # every fuzz target for SECONDS, 60 by default
	script/fuzz $(or $(SECONDS),60)
install: # programs and manifests, to PREFIX (/usr/local), below DESTDIR
	script/install
format: # the layout that the gate checks
	script/format
clean:
	script/clean
