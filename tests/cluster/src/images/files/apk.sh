#!/bin/sh
# apk add [--no-cache] PACKAGE...: records the package and makes the programs that
# Dockerfiles of the examples then call.
if [ "$1" != add ]; then
    echo "apk: only 'add' is here" >&2
    exit 1
fi
shift
mkdir -p /lib/apk/db
for package in "$@"; do
    case "$package" in
    -*) continue ;;
    sudo) printf '#!/bin/sh\nexec "$@"\n' >/usr/bin/sudo && chmod 4755 /usr/bin/sudo ;;
    shadow)
        # groupmod -n NEW OLD
        cat >/usr/sbin/groupmod <<'PROGRAM'
#!/bin/sh
[ "$1" = -n ] || exit 2
sed -i "s/^$3:/$2:/" /etc/group
PROGRAM
        # usermod -l NEW -g GID -d HOME -m OLD
        cat >/usr/sbin/usermod <<'PROGRAM'
#!/bin/sh
while getopts l:g:d:m option; do
    case "$option" in
    l) name=$OPTARG ;;
    g) gid=$OPTARG ;;
    d) home=$OPTARG ;;
    m) ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
mkdir -p "$home"
awk -F: -v OFS=: -v old="$1" -v name="$name" -v gid="$gid" -v home="$home" \
    '$1 == old { $1 = name; $4 = gid; $6 = home } { print }' /etc/passwd >/etc/passwd.new
mv /etc/passwd.new /etc/passwd
PROGRAM
        chmod 755 /usr/sbin/groupmod /usr/sbin/usermod
        ;;
    esac
    echo "P:$package" >>/lib/apk/db/installed
    echo "OK: $package"
done
