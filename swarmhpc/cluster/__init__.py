"""The cluster wing: cluster file, observe, plan, apply."""
