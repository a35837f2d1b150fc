#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Pins Debian's images in the Dockerfile and CI by digest: asks the registry what each tag is now, and writes it
# behind the tag. Needs the network, and skopeo or docker with buildx. Run it for a release, and when Debian has
# published new images; commit what it changes.
#
#     config/pin.sh
set -eu

# shellcheck source=config/packages.sh
. "$(dirname "$0")/packages.sh"
cd "$(dirname "$0")/.."

# The digest of the image $1, for all machines.
digest_of() {
    if command -v skopeo >/dev/null; then
        skopeo inspect --no-tags --format '{{.Digest}}' "docker://$1"
    elif command -v docker >/dev/null; then
        docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$1"
    else
        die "install skopeo, or docker with buildx, to ask the registry"
    fi
}

image='docker.io/library/debian:[a-z0-9.-]*'
files='Dockerfile .github/workflows/ci.yaml'
# shellcheck disable=SC2086
images=$(grep -oh "$image" $files | sort -u)
script=''
for each in $images; do
    digest=$(digest_of "$each") || die "could not ask the registry for $each: see above"
    echo "$digest" | grep -qxE 'sha256:[0-9a-f]{64}' || die "$each: the registry's answer is not a digest: $digest"
    script="$script;s#$each\\(@sha256:[0-9a-f]*\\)\\{0,1\\}\\([^a-z0-9.@-]\\|\$\\)#$each@$digest\\2#"
    say "$each@$digest"
done
# shellcheck disable=SC2086
sed -i "${script#;}" $files
