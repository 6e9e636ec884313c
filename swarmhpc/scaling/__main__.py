"""Starts the autoscaler: what the image's entrypoint runs in the role `autoscaler`."""

import logging

from swarmhpc.scaling import autoscale

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="swarmhpc: autoscaler: %(message)s")
    autoscale.run()
