#!/bin/sh
# Serves /srv until it is told to stop.
httpd -f -p 8080 -h /srv &
trap 'kill $!' TERM
wait
