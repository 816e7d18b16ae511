"""Ciphertext layout, and the pipelines that seal and open it over buffers."""
