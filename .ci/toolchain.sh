# What `./parvis` and `./test` need from the machine, and how to get it on Debian. Read with `.`; `here` is the project's folder.

# Builds parvis: the compiler (the newest of Debian, which both supported releases have), and C for three crates.
rust_packages="cargo-web rustc-web rustfmt-web ca-certificates"
c_packages="gcc libc6-dev"
# parvis itself: checking archive signatures, and owners of files when it runs as an ordinary user.
run_packages="gpgv uidmap"
# What the tests judge parvis by, or make accidents with.
test_packages="age chromium chromium-driver curl docker-compose docker-registry docker.io git gpg gpg-agent gpgconf iproute2 mmdebstrap openssh-client openssl passwd python3 python3-yaml skopeo strace util-linux xz-utils zstd"

say() {
    printf 'parvis: %s\n' "$*" >&2
}

# Prints the oldest Rust that builds parvis.
wanted_rust() {
    sed -n 's/^rust-version = "\(.*\)"/\1/p' "$here/Cargo.toml"
}

# Whether a version, such as 1.95.0, is at least the one that Cargo.toml asks for.
new_enough() {
    [ "$(printf '%s\n%s\n' "$(wanted_rust)" "$1" | sort -V | head -n 1)" = "$(wanted_rust)" ]
}

# Sets `cargo` to a cargo that is new enough, if the machine has one.
find_cargo() {
    for cargo in "${CARGO:-cargo}" "${HOME:-/root}/.cargo/bin/cargo" /usr/bin/cargo; do
        version=$("$cargo" --version 2>/dev/null) || continue
        version=${version#cargo }
        if new_enough "${version%% *}"; then
            # Its rustc stands beside it.
            case $cargo in */*) PATH=${cargo%/*}:$PATH ;; esac
            return 0
        fi
    done
    return 1
}

# Prints those of the given packages that are not installed; nothing where the machine is no Debian.
missing() {
    command -v dpkg-query >/dev/null || return 0
    for package in "$@"; do
        case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in
            installed) ;;
            *) printf '%s ' "$package" ;;
        esac
    done
}

# Installs packages as root, or through a sudo that asks nothing; else says what root has to do, once.
install() {
    if ! command -v apt-get >/dev/null; then
        say "this machine is no Debian, and lacks Rust $(wanted_rust) or newer, or a C compiler"
        return 1
    fi
    root=
    if [ "$(id -u)" != 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            say "this machine lacks: $*"
            say "hint: let root run this once: apt-get update && apt-get install --no-install-recommends $*"
            return 1
        fi
        root='sudo -n'
    fi
    say "installing, once: $*"
    # Its errors are on standard error. --no-remove: a machine's own older compiler is never taken away.
    {
        $root apt-get update -qq &&
            $root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends --no-remove -o Dpkg::Use-Pty=0 "$@"
    } > /dev/null || {
        say "apt-get failed, as the lines above say"
        say "hint: mend what they name, and run this again"
        return 1
    }
}

# Makes sure of a compiler and of the further packages that are named. Sets `cargo`.
# shellcheck disable=SC2046,SC2086
prepare() {
    need=$(missing "$@")
    find_cargo || need="$(missing $rust_packages) $need"
    command -v cc >/dev/null || need="$(missing $c_packages) $need"
    # parvis says by itself what it lacks; what it wants is installed along, or where that asks nobody.
    wish=$(missing $run_packages)
    case $need in
        *[a-z]*) install $need $wish ;;
        *) [ -z "$wish" ] || [ "$(id -u)" != 0 ] || install $wish || : ;;
    esac && {
        find_cargo || {
            say "no Rust $(wanted_rust) or newer was found"
            say "hint: with rustup, run \`rustup update stable\`"
            return 1
        }
    }
}
