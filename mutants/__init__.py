"""
Mutation testing: a line of the engine or of the policy language is changed, and some test must notice.

The changes are mutmut's: its operators (:mod:`mutmut.mutation.mutators`) and its rules of what to leave alone, except
that functions with decorators are changed too. Its runner is not used: that one replaces functions by trampolines,
which our own code sees (:func:`inspect.signature`, ``__qualname__``, generated dataclass methods). Here each mutant is
a whole file, in a copy of the checkout, and a process forked with everything imported but ``pixel_llm`` runs the tests
that reach the changed line, the fastest first, until one fails.

Which tests reach a line is measured by coverage's contexts, over the tests in :data:`mutants.mapping.TESTS`. Code that
runs when a module is imported is reached by every test that enters the module.

``python -m mutants --sample 600 --seed 1`` draws its sample by the seed from all mutants there are, goes on where it
was interrupted (``.mutants/``), and fails if fewer than 95 % are killed or if ``mutants/survivors.md`` does not give
the reason of each survivor. Once the checkout has changed it starts again; with ``--keep-kills`` only what survived
is run again.

A mutant is killed by a test that fails twice, the second time right after the first, and that passes where nothing is
changed. One that runs far longer than its tests do is listed with the survivors: what ends it is no test.
"""
