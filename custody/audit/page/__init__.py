"""The report as one page that verifies itself: what it holds, and how its files become one.

::

    data       the entries, proofs, documents and findings that a page holds
    build      template, style and modules become one HTML file, under a policy that allows nothing else

    report.html, report.css     what is there before the program runs
    bytes, checks               spellings of bytes; a verdict
    note, merkle, documents     checkpoints and cosignatures; inclusion proofs; envelopes and trust roots
    verify                      from bytes to verdicts, entry by entry; draws nothing
    words, story                entries in words; entries put together by request
    dom, tables, timeline, main what is drawn

The modules run in a browser and in Node alike, up to ``verify`` and ``story``: so they are tested with either.
"""
