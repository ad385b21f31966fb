#!/bin/sh
# Records what kustomize 5.7.1 makes of every case in cases/: `expected.yaml`
# where it renders, `refused` where it does not. A case is a folder with
# `input/`, whose kustomization (or that of `input/overlay/`) is rendered, and
# maybe `flags` for `kustomize build`. Where it has a folder `folder`, that gets
# the files of `-o`.
#
#   go install sigs.k8s.io/kustomize/kustomize/v5@v5.7.1
#   tests/record.sh [CASE...]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$(dirname "$0")/cases"
program=${KUSTOMIZE:-kustomize}
version=$("$program" version)
[ "$version" = v5.7.1 ] || { echo "need kustomize v5.7.1, found $version" >&2; exit 1; }
if [ $# -eq 0 ]; then
    # Every kustomization of the examples.
    rm -rf "$here/examples"
    (cd "$here/../../../examples" && find . -name kustomization.yaml -printf '%h\n') |
        while read -r folder; do
            mkdir -p "$here/examples/$(dirname "$folder")"
            "$program" build "$here/../../../examples/$folder" >"$here/examples/$folder.yaml"
        done
fi
[ $# -gt 0 ] || set -- */*
for case in "$@"; do
    rm -f "$case/expected.yaml" "$case/refused"
    root=$case/input
    [ ! -d "$root/overlay" ] || root=$root/overlay
    flags=
    [ ! -f "$case/flags" ] || flags=$(cat "$case/flags")
    # shellcheck disable=SC2086
    if "$program" build $flags "$root" >"$case/expected.yaml" 2>"$case/refused"; then
        rm "$case/refused"
        if [ -d "$case/folder" ]; then
            rm -f "$case/folder"/*
            # shellcheck disable=SC2086
            "$program" build $flags "$root" -o "$case/folder"
        fi
    else
        rm "$case/expected.yaml"
        # Paths of the machine are nobody's business.
        sed -i "s|$(pwd)/||g; s|/tmp/kustomize-[0-9]*|CLONE|g" "$case/refused"
    fi
done
