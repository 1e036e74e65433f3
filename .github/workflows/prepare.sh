#!/usr/bin/env bash
# Puts the key of the project and the login of the registry where parvis looks for them, in a job of GitHub. Reads KEY, PUBLIC_KEY,
# TOKEN and REGISTRY from the environment; prints nothing of them.
set -euo pipefail
umask 077

if [ -n "${KEY:-}" ]; then
    mkdir -p ~/.config/parvis/keys
    printf '%s\n' "$KEY" > ~/.config/parvis/keys/release.key
    printf '%s\n' "$PUBLIC_KEY" > ~/.config/parvis/keys/release.pub
fi
printf '%s\n' "$PUBLIC_KEY" > release.pub
# A project that is not clean is not released.
printf '/release.pub\n' >> .git/info/exclude

mkdir -p ~/.docker
login=$(printf '%s:%s' "${GITHUB_ACTOR:-parvis}" "$TOKEN" | base64 -w 0)
printf '{"auths":{"%s":{"auth":"%s"}}}\n' "${REGISTRY%%/*}" "$login" > ~/.docker/config.json

# The checkout belongs to another user than the one of the container.
git config --global --add safe.directory "${GITHUB_WORKSPACE:-$PWD}"
