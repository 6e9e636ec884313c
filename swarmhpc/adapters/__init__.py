"""Everything that talks to something outside this process: the engine, HTCondor, other programs."""
