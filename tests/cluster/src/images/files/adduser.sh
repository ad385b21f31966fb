#!/bin/sh
# adduser [-S] [-D] [-H] [-u UID] [-G GROUP] [-s SHELL] [-h HOME] [-g GECOS] USER, as busybox has it.
uid= group= shell=/bin/sh home= create=yes
while getopts SDHu:G:s:h:g: option; do
    case "$option" in
    u) uid=$OPTARG ;;
    G) group=$OPTARG ;;
    s) shell=$OPTARG ;;
    h) home=$OPTARG ;;
    H) create= ;;
    S | D | g) ;;
    *) exit 1 ;;
    esac
done
shift $((OPTIND - 1))
user=$1
if grep -q "^$user:" /etc/passwd; then
    echo "adduser: user '$user' in use" >&2
    exit 1
fi
if [ -z "$uid" ]; then
    uid=100
    while grep -q "^[^:]*:[^:]*:$uid:" /etc/passwd; do uid=$((uid + 1)); done
fi
gid=65534
if [ -n "$group" ]; then
    gid=$(awk -F: -v name="$group" '$1 == name { print $3 }' /etc/group)
    if [ -z "$gid" ]; then
        echo "adduser: unknown group $group" >&2
        exit 1
    fi
fi
home=${home:-/home/$user}
echo "$user:x:$uid:$gid::$home:$shell" >>/etc/passwd
if [ -n "$create" ]; then
    mkdir -p "$home" && chown "$uid:$gid" "$home"
fi
