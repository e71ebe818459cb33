#!/bin/sh
# Writes nginx's configuration from deploy/nginx/ferryman.conf, with the marked places filled in. The nginx image
# runs it before nginx starts.
#
# STORE host:port, FRONTS host:port …, BUCKET, SERVER_NAME, LISTEN, CONF (written), ACCESS_LOG;
# SOURCE: default /etc/ferryman/ferryman.conf.
set -eu
servers=
for front in $FRONTS; do servers="$servers server $front max_fails=0;"; done
sed -e "s|server 127\.0\.0\.1:8333;|server $STORE;|" \
    -e "s|server 127\.0\.0\.1:8080 max_fails=0;|$servers|" \
    -e "s|listen 80;|listen $LISTEN; access_log $ACCESS_LOG;|" \
    -e "s|server_name www\.example\.com;|server_name $SERVER_NAME;|" \
    -e "s|http://ferryman_store/site|http://ferryman_store/$BUCKET|" \
    "${SOURCE:-/etc/ferryman/ferryman.conf}" > "$CONF"
# Only what is sure to have been replaced may start.
for wanted in "server $STORE;" "$servers" "http://ferryman_store/$BUCKET\$request_uri" "server_name $SERVER_NAME;"; do
    if ! grep -qF "$wanted" "$CONF"; then
        echo "$0: ferryman.conf has changed; no place was found for: $wanted" >&2
        exit 1
    fi
done
