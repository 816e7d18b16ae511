"""``custody demo``: the main job, shown with the command line that people use, every party in a process of its own.

``cast`` makes the deployment and its people; ``stage`` runs commands and servers and shows them; ``story`` is what
happens.
"""
