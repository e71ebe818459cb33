#!/bin/sh
# `make audit`: asks a service of vulnerabilities for every locked package. Needs the network.
# 0: none is known. 1: some are, and told. 3: the service could not be asked, which says nothing.
set -u
worst=0
said=$(mktemp)
trap 'rm -f "$said"' EXIT
for lock in "$@"; do
  "$VENV/bin/pip-audit" --disable-pip --require-hashes --progress-spinner off --vulnerability-service "$SERVICE" \
    --requirement "$lock" >"$said" 2>&1
  status=$?
  if [ "$status" -ne 0 ] && ! grep -q "^Found [0-9]" "$said"; then
    tail -n 3 "$said" >&2
    echo "$lock: NOT AUDITED: the service '$SERVICE' could not be asked; this says nothing of the packages" >&2
    exit 3
  fi
  if grep -q "could not be audited" "$said"; then
    grep -c "could not be audited" "$said" | sed "s/$/ packages that the service does not know, or did not tell of/" >&2
    echo "$lock: NOT AUDITED: '$SERVICE' has to know every package; this says nothing of the others" >&2
    exit 3
  fi
  echo "$lock:"
  cat "$said"
  [ "$status" -eq 0 ] || worst=1
done
exit "$worst"
