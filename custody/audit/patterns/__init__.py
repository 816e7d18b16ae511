"""Patterns worth waking up for: what no rule forbids, and yet somebody should look at.

::

    alert       what is said, and to what it refers
    habits      what is usual, learned from the entries before
    thresholds  how much is too much
    denials, firsts, volume, haste, trouble     one pattern each: (habits, entry, thresholds) -> alerts
    look        all of them

A pattern is a pure function: it asks what is usual so far and changes nothing. ``Habits.learn`` is told of the entry
afterwards. So a whole log replayed gives the same alerts, and nothing but the log has to be kept.
"""
