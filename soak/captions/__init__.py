"""
Ten thousand captions through a server that fails at random, in the four ways that there are, at once.

Where :mod:`soak` plays the engine in virtual time, this is the whole library over real sockets: threads and an event
loop share two models, one with fallbacks and one without, and ask the scripted LM Studio, which runs in a process of
its own. What it does next is drawn from a seed (:mod:`soak.captions.faults`), and so is every call
(:mod:`soak.captions.calls`): which way, which picture, whether a stream is left early or a task cancelled. What meets
what is up to the machine: a seed gives the same weather, not the same run.

The calls come in shifts, each with an event loop of its own. **What is held** (:mod:`soak.captions.holding`):

- Every call ends exactly once and within its deadline, with the caption of its picture, a fallback's, or an error that
  has a code and comes of the server or of the policy. What a broken stream had given is the beginning of its caption.
- The models' own counts are what their callers have seen.
- After each shift no task is left, after the last no socket and no thread but those that wait for work; nobody
  complained where no caller hears it (logs, destructors, threads, the loop).
- Memory does not grow in the second half: what the allocator keeps for itself is settled by then.
"""
