#!/bin/sh
# addgroup [-S] [-g GID] GROUP, as busybox has it.
gid=
while getopts Sg: option; do
    case "$option" in
    g) gid=$OPTARG ;;
    S) ;;
    *) exit 1 ;;
    esac
done
shift $((OPTIND - 1))
group=$1
if grep -q "^$group:" /etc/group; then
    echo "addgroup: group '$group' in use" >&2
    exit 1
fi
if [ -z "$gid" ]; then
    gid=100
    while grep -q "^[^:]*:[^:]*:$gid:" /etc/group; do gid=$((gid + 1)); done
fi
echo "$group:x:$gid:" >>/etc/group
