"""The scaling wing: pool and tasks, who goes and who comes, apply."""
