"""The gateway: what HTCondor's remote protocol lacks from outside. Runs in the pool's own containers."""
