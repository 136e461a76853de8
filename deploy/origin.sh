#!/bin/sh
# Starts nginx with origin.conf, for services at other addresses than those of docker-compose.yml: ORIGIN_GATEWAY and
# ORIGIN_NOTIFIER are a host and a port each. Names are asked for at this machine's own name server. Where several cells
# stand behind it, ORIGIN_PARTITIONS is the file with their addresses instead, as origin_partitions.conf.
set -eu
# Where the output is a socket, as for systemd's units, nginx cannot open it a second time: the log goes to the journal's own.
log=
[ ! -S /dev/stdout ] || log=syslog:server=unix:${ORIGIN_JOURNAL:-/run/systemd/journal/dev-log},nohostname,tag=saccade_origin
server=$(awk '/^nameserver/ { print ($2 ~ /:/ ? "[" $2 "]" : $2); exit }' /etc/resolv.conf)
sed -e "s|resolver 127\.0\.0\.11 |resolver ${server:-127.0.0.11} |" \
    -e "s|gateway:8081|${ORIGIN_GATEWAY:-gateway:8081}|" \
    -e "s|notifier:8082|${ORIGIN_NOTIFIER:-notifier:8082}|" \
    ${log:+-e "s|access_log /dev/stdout |access_log $log |"} \
    -e "s|listen 8080;|listen ${ORIGIN_LISTEN:-8080};|" \
    ${ORIGIN_PARTITIONS:+-e "s|set .gateway .*|include /etc/saccade/origin_slot.conf;|" -e "/set .notifier /d"} \
    ${ORIGIN_PARTITIONS:+-e "s|^    server {|    include ${ORIGIN_PARTITIONS}; server {|"} \
    "${ORIGIN_CONFIGURATION:-/etc/saccade/origin.conf}" > "${TMPDIR:-/tmp}/origin.conf"
exec nginx -e stderr -c "${TMPDIR:-/tmp}/origin.conf" -g "daemon off;"
