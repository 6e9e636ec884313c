#!/bin/sh
# Counts the lines of the file named first and writes the number to the file named second.
set -eu
wc -l < "$1" > "$2"
echo "counted $1 on $(hostname)"
