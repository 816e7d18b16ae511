"""Makes the log from the journal: tiles, checkpoints, witnesses, receipts. ``proto/spec/log.md`` states the order.

::

    publisher   the rounds, their thread, and everybody who waits for a receipt
        │
        ├── recovery   where the log stood, compared at start
        ├── batch      documents, bundles, tiles, then one signature
        ├── release    the cosigned checkpoint becomes visible
        ├── witnesses  asked all at once, believed one by one
        └── history    the tree of a checkpoint, read from the store; contradictions
                └── tree   the right edge in memory
"""
