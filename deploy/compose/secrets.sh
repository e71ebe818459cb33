#!/bin/sh
# Makes ./secrets, each secret once: what is there stays. Containers read them as another user, so the files are
# readable and the directory is not.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
once() { [ -s "secrets/$1" ] || { cat > "secrets/$1"; chmod 0444 "secrets/$1"; }; }

random | once admin-token
random | once operator-secret
random | once store-secret
random | once grafana-password
[ -s secrets/valkey.conf ] || printf 'requirepass %s\n' "$(random)" | once valkey.conf
printf 'redis://:%s@valkey:6379/0\n' "$(sed 's/^requirepass //' secrets/valkey.conf)" | once broker-url
once s3.json <<JSON
{
  "identities": [
    {
      "name": "ferryman",
      "credentials": [{"accessKey": "ferryman", "secretKey": "$(cat secrets/store-secret)"}],
      "actions": ["Admin", "Read", "List", "Tagging", "Write"]
    },
    {"name": "anonymous", "actions": ["Read:site"]}
  ]
}
JSON
echo "secrets/: $(ls secrets | tr '\n' ' ')"
