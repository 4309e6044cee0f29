"""A recipe in, one stage done: the only place that knows both the recipe and the rooms.

The command line and `jobs/` call these functions.  Stages meet on storage: each reads directories and writes one.
"""
