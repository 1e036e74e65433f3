//! What travels with a difference between two downloads: the script that applies it, and how it is used, in both languages.

use crate::image::delta::{Delta, SEAL};

/// The script's name.
pub const SCRIPT: &str = "apply.sh";

/// The text's name.
pub const README: &str = "README.txt";

/// The name of the list of digests that the script reads.
pub const SUMS: &str = "SHA256SUMS";

/// Returns the script for `/bin/sh`: it needs `tar` and `sha256sum`, and leaves the newer archive whole or not at all.
#[must_use]
pub fn script(delta: &Delta, statement: &str) -> String {
    let Delta { from, to, images, .. } = delta;
    let [head, middle, tail] = SEAL;
    format!(
        "{HEAD}from={from}\nto={to}\nimages={images}\nhead={head}\nmiddle={middle}\ntail={tail}\nstatement={statement}\n{BODY}"
    )
}

/// Returns how the difference is used.
#[must_use]
pub fn readme(delta: &Delta, folder: &str) -> String {
    let Delta { from, to, .. } = delta;
    format!(
        "FROM {from}.tar TO {to}.tar\n\
         \n\
         This download holds only what {from}.tar lacks. Together they give {to}.tar, byte for byte. Either with parvis:\n\
         \n\
         \x20   parvis delta {folder}.tar {from}.tar\n\
         \x20   parvis verify {to}.tar\n\
         \n\
         or without it, in a terminal:\n\
         \n\
         \x20   tar -xf {folder}.tar\n\
         \x20   sh {folder}/{SCRIPT} {from}.tar\n\
         \n\
         Both compare what they take from the older archive with its digest, and refuse another archive and files that were damaged on the\n\
         way: they make {to}.tar as it was released, or nothing. The old archive stays as it is. Who signed the release is what\n\
         `parvis verify` says; the script does not know. In place of the older archive, the folder that it was unpacked to is as good.\n\
         \n\
         DE {from}.tar À {to}.tar\n\
         \n\
         Ce téléchargement ne contient que ce qui manque à {from}.tar. Ensemble, ils donnent {to}.tar, à l'octet près. Soit avec parvis :\n\
         \n\
         \x20   parvis delta {folder}.tar {from}.tar\n\
         \x20   parvis verify {to}.tar\n\
         \n\
         soit sans lui, dans un terminal :\n\
         \n\
         \x20   tar -xf {folder}.tar\n\
         \x20   sh {folder}/{SCRIPT} {from}.tar\n\
         \n\
         Tous deux comparent à son empreinte ce qu'ils prennent de l'ancienne archive, et refusent une autre archive et des fichiers abîmés\n\
         en route : ils font {to}.tar telle qu'elle a été publiée, ou rien. L'ancienne archive reste telle quelle. Qui a signé la version,\n\
         c'est `parvis verify` qui le dit ; le script ne le sait pas. À la place de l'ancienne archive, le dossier où elle a été\n\
         décompressée convient aussi.\n"
    )
}

const HEAD: &str = r"#!/bin/sh
# Puts a newer archive together from an older one and from what is in this folder: sh apply.sh OLD.tar [NEW.tar]
set -eu

";

const BODY: &str = r#"
say() {
    case ${LC_ALL:-${LC_MESSAGES:-${LANG:-}}} in fr*) printf '%s\n' "$2" ;; *) printf '%s\n' "$1" ;; esac
}
fail() {
    say "error: $1" "erreur : $2" >&2
    exit 1
}
changed() {
    fail "$1 was changed or is not whole; download it again" "$1 a été modifié ou est incomplet ; téléchargez-le de nouveau"
}
other() {
    fail "$old is not $from.tar: this is only for that one" "$old n'est pas $from.tar : ceci ne va qu'avec celle-là"
}
sum() {
    set -- "$(sha256sum)"
    printf '%s' "${1%% *}"
}

[ $# -ge 1 ] || fail "name the older archive: sh $0 $from.tar" "indiquez l'ancienne archive : sh $0 $from.tar"
old=$1
new=${2:-$to.tar}
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
[ -e "$old" ] || fail "there is no $old" "$old n'existe pas"
(cd "$here" && sha256sum -c SHA256SUMS) >/dev/null 2>&1 || changed "$here"

work=$new.parvis-$$
mkdir "$work" || fail "cannot write beside $new" "impossible d'écrire à côté de $new"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

if [ -d "$old" ]; then
    found=$old/images.tar
else
    tar -xf "$old" -C "$work" "$from/images.tar" 2>/dev/null || other
    found=$work/$from/images.tar
fi
mkdir "$work/old"
tar -xf "$found" -C "$work/old" 2>/dev/null || other
rm -rf "${work:?}/$from"

while read -r what name size; do
    case $what in
        new) cat "$here/part-$name" ;;
        old)
            blob=$work/old/blobs/sha256/$name
            [ -f "$blob" ] && [ "$(sum <"$blob")" = "$name" ] || other
            cat "$blob"
            ;;
        seal)
            # The statement names everything here but itself: size and checksum of its header follow from it.
            length=$(($(wc -c <"$here/$statement")))
            octal=$(printf '%011o' "$length")
            total=$name
            digits=$octal
            while [ -n "$digits" ]; do
                total=$((total + ${digits%"${digits#?}"}))
                digits=${digits#?}
            done
            cat "$here/$head"
            printf '%s\000' "$octal"
            cat "$here/$middle"
            printf '%06o\000 ' "$total"
            cat "$here/$tail" "$here/$statement"
            while [ $((length % 512)) -ne 0 ]; do
                printf '\000'
                length=$((length + 1))
            done
            ;;
    esac
done <"$here/delta.txt" >"$work/new.tar"

[ "$(tar -xOf "$work/new.tar" "$to/images.tar" | sum)" = "$images" ] || changed "$here"
mv "$work/new.tar" "$new"
say "$new is whole; \`parvis verify $new\` says who signed it" "$new est complète ; « parvis verify $new » dit qui l'a signée"
"#;
