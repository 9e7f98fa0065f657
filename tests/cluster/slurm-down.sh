#!/usr/bin/env bash
# Stops what slurm-up.sh started; with --wipe its state goes as well.
set -uo pipefail
R=${SLURM_ROOT:-/tmp/lora-bench-slurm}
for file in "$R"/run/slurmd.n*.pid "$R"/run/slurmctld.pid "$R"/run/slurmdbd.pid "$R"/run/mariadb.pid "$R"/run/munged.pid; do
  [ -s "$file" ] || continue
  pid=$(cat "$file")
  kill "$pid" 2>/dev/null
  for _ in $(seq 100); do
    [ -d "/proc/$pid" ] && [ "$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -c1)" != Z ] || break
    sleep 0.1
  done
  rm -f "$file"
done
[ "${1:-}" != --wipe ] || rm -rf "$R"
