"""The agent: an own loop over the vendors' wire protocols.

Importing this package is cheap; `rootbound_lda.agent.loop` and `.planner` pull in the model
libraries, which takes seconds, and are imported in a thread.
"""
