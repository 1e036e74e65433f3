//! Everything that `parvis verify` says to a volunteer, in every language it says it in.

use crate::model::language::{Language, both};
use crate::screen::size;
use crate::trust::key::Fingerprint;
use crate::trust::verdict::{Finding, Signer};

/// Something that was looked at and found as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// Who signed it.
    Signature(Signer),
    /// Another key signed the release before, and the root vouches for the new one.
    Replaced { before: Fingerprint },
    /// The repository that was signed.
    Name(String),
    /// The release is of its time: until when, and how many days old it is.
    Validity { until: String, days: i64 },
    /// It is not older than the newest that was seen here.
    Sequence { sequence: u64 },
    /// Every blob of an image.
    Blobs { image: String, count: usize, bytes: u64 },
    /// Files that the statement names.
    Files { count: usize, bytes: u64 },
    /// Images that the statement names.
    Images { count: usize },
    /// A security rebuild: who signed it, and what it began with.
    Rebuild { name: String, by: Signer, before: Before },
}

/// What a security rebuild began with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    Rebuild(String),
    Release {
        version: String,
        by: Signer,
    },
    /// A state of the project that was never released.
    Nothing,
}

impl Before {
    /// Returns it as the end of a sentence.
    fn text(&self, language: Language) -> String {
        match self {
            Self::Rebuild(name) => both!(language, "from {name}", "à partir de {name}"),
            Self::Release { version, by: Signer { name, key, .. } } => {
                both!(language, "from release {version} of {name} ({key})", "à partir de la version {version} de {name} ({key})")
            }
            Self::Nothing => {
                both!(language, "from a state that was never released", "à partir d'un état jamais publié")
            }
        }
    }
}

impl Check {
    /// Returns the word by which programs know the check.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Signature(_) => "signature",
            Self::Replaced { .. } => "replaced-key",
            Self::Name(_) => "name",
            Self::Validity { .. } => "validity",
            Self::Sequence { .. } => "sequence",
            Self::Blobs { .. } => "blobs",
            Self::Files { .. } => "files",
            Self::Images { .. } => "images",
            Self::Rebuild { .. } => "rebuild",
        }
    }

    pub fn text(&self, language: Language) -> String {
        match self {
            Self::Signature(Signer { name, key, vouched: None, .. }) => {
                both!(language, "signed by {name} ({key})", "signé par {name} ({key})")
            }
            Self::Signature(Signer { name, key, vouched: Some((root, _)), .. }) => both!(
                language,
                "signed by the key {name} ({key}), for which {root} vouches",
                "signé par la clé {name} ({key}), dont {root} se porte garant"
            ),
            Self::Replaced { before } => both!(
                language,
                "E07: the key is a new one (before: {before}), and its root key confirms it",
                "E07 : la clé est nouvelle (auparavant : {before}), et la clé maîtresse la confirme"
            ),
            Self::Name(name) => both!(language, "signed under this name: {name}", "signé sous ce nom : {name}"),
            Self::Validity { until, days } => both!(
                language,
                "issued {days} days ago, good until {until}",
                "publié il y a {days} jours, valable jusqu'au {until}"
            ),
            Self::Sequence { sequence } => both!(
                language,
                "not older than what was seen on this machine (number {sequence})",
                "pas plus ancien que ce qui a été vu sur cette machine (numéro {sequence})"
            ),
            Self::Blobs { image, count, bytes } => {
                let bytes = size(*bytes);
                both!(
                    language,
                    "{image}: {count} parts read in full, unchanged ({bytes})",
                    "{image} : {count} éléments lus en entier, inchangés ({bytes})"
                )
            }
            Self::Files { count, bytes } => {
                let bytes = size(*bytes);
                both!(
                    language,
                    "{count} files read in full, unchanged ({bytes})",
                    "{count} fichiers lus en entier, inchangés ({bytes})"
                )
            }
            Self::Images { count } => {
                both!(language, "{count} images are those of the release", "{count} images sont celles de la version")
            }
            Self::Rebuild { name, by: Signer { name: signer, key, .. }, before } => {
                let before = before.text(language);
                both!(
                    language,
                    "{name}: rebuilt by {signer} ({key}) {before}",
                    "{name} : reconstruite par {signer} ({key}) {before}"
                )
            }
        }
    }
}

/// Returns the sentence of a good verdict; `release` is product, version and day, `read` whether its bytes were read.
pub fn good(subject: &str, release: Option<&(String, String, String)>, read: bool, language: Language) -> String {
    match (release, read) {
        (Some((product, version, day)), true) => both!(
            language,
            "good: {subject} is {product} {version} of {day}, as it was released",
            "bon : {subject} est {product} {version} du {day}, tel que publié"
        ),
        (Some((product, version, day)), false) => both!(
            language,
            "good: {subject} states {product} {version} of {day}; its files themselves were not read",
            "bon : {subject} annonce {product} {version} du {day} ; ses fichiers eux-mêmes n'ont pas été lus"
        ),
        (None, true) => {
            both!(
                language,
                "good: {subject} is signed, and nobody changed it",
                "bon : {subject} est signé, et personne ne l'a modifié"
            )
        }
        (None, false) => both!(
            language,
            "good: {subject} is signed; its layers were not read",
            "bon : {subject} est signé ; ses couches n'ont pas été lues"
        ),
    }
}

/// Returns the sentence of a good verdict on a security rebuild.
pub fn rebuilt(subject: &str, name: &str, by: &Signer, before: &Before, language: Language) -> String {
    let (Signer { name: signer, key, .. }, before) = (by, before.text(language));
    both!(
        language,
        "good: {subject} is the security rebuild {name}, rebuilt by {signer} ({key}) {before}",
        "bon : {subject} est la reconstruction de sécurité {name}, faite par {signer} ({key}) {before}"
    )
}

/// Returns what is beside a good verdict: what was not looked at.
pub fn not_compared(language: Language) -> String {
    both!(
        language,
        "its age is not known: a signature of an image alone has no date and no number",
        "son âge n'est pas connu : la signature d'une image seule n'a ni date ni numéro"
    )
}

fn by(claimed: Option<&Fingerprint>) -> String {
    claimed.map_or_else(String::new, |key| format!(" ({key})"))
}

/// Returns the sentence of a verdict that is not good.
#[expect(clippy::too_many_lines, reason = "one sentence for each finding, in both languages")]
pub fn sentence(finding: &Finding, language: Language) -> String {
    match finding {
        Finding::NoSignature { place, others } if others.is_empty() => {
            both!(language, "no signature was found in `{place}`", "aucune signature n'a été trouvée dans `{place}`")
        }
        Finding::NoSignature { place, others } => {
            let others = others.join(", ");
            both!(
                language,
                "no signature was found in `{place}`; what is there says other things ({others})",
                "aucune signature n'a été trouvée dans `{place}` ; ce qui s'y trouve dit autre chose ({others})"
            )
        }
        Finding::NoStatement { product } => both!(
            language,
            "the statement on the release is missing, though `{product}` had one before",
            "la déclaration de version manque, alors que `{product}` en avait une auparavant"
        ),
        Finding::UnknownKey { certificate: true, .. } => both!(
            language,
            "it is signed with a certificate of the day, and not with a key that is trusted",
            "c'est signé avec un certificat d'un jour, et non avec une clé de confiance"
        ),
        Finding::UnknownKey { claimed, .. } => {
            let key = by(claimed.as_ref());
            both!(
                language,
                "it is signed by a key that you do not trust{key}",
                "c'est signé par une clé à laquelle vous ne faites pas confiance{key}"
            )
        }
        Finding::Changed { name, expected, found } if expected.is_empty() && found.is_empty() => {
            both!(language, "`{name}` was changed after it was signed", "`{name}` a été modifié après la signature")
        }
        Finding::Changed { name, expected, found } if expected.is_empty() => {
            both!(language, "`{name}` was changed or is damaged: {found}", "`{name}` a été modifié ou est abîmé : {found}")
        }
        Finding::Changed { name, expected, found } => both!(
            language,
            "`{name}` was changed: `{expected}` was signed, `{found}` is there",
            "`{name}` a été modifié : `{expected}` a été signé, `{found}` est là"
        ),
        Finding::Unlisted { name } => {
            both!(language, "`{name}` is there, and nobody signed it", "`{name}` est là, et personne ne l'a signé")
        }
        Finding::Other { expected, found } if expected.is_empty() => {
            both!(language, "the signature is about something else: `{found}`", "la signature porte sur autre chose : `{found}`")
        }
        Finding::Other { expected, found } => both!(
            language,
            "the signature is about something else: `{found}`, and not `{expected}`",
            "la signature porte sur autre chose : `{found}`, et non `{expected}`"
        ),
        Finding::OtherNumber { wanted, found } => both!(
            language,
            "the signature is about another release: `{found}`, and not {wanted}",
            "la signature porte sur une autre version : `{found}`, et non {wanted}"
        ),
        Finding::Broken { rebuild, expected, found } => both!(
            language,
            "the rebuild {rebuild} does not follow from what stands before it: it names `{found}`, and `{expected}` is there",
            "la reconstruction {rebuild} ne fait pas suite à ce qui la précède : elle nomme `{found}`, et `{expected}` est là"
        ),
        Finding::Older { product, found, seen } => {
            let ((found, number), (seen, newer)) = (found, seen);
            both!(
                language,
                "{product} {found} (number {number}) is older than {seen} (number {newer}), which this machine has seen",
                "{product} {found} (numéro {number}) est plus ancien que {seen} (numéro {newer}), que cette machine a déjà vu"
            )
        }
        Finding::Twice { product, sequence } => both!(
            language,
            "there are two different releases of {product} with the number {sequence}",
            "il y a deux versions différentes de {product} avec le numéro {sequence}"
        ),
        Finding::Expired { product: Some((product, version)), until, days } => {
            let until = until.day();
            both!(
                language,
                "{product} {version} was good until {until}, {days} days ago",
                "{product} {version} était valable jusqu'au {until}, il y a {days} jours"
            )
        }
        Finding::Expired { product: None, until, days } => {
            let until = until.day();
            both!(
                language,
                "the list of the publisher's keys was good until {until}, {days} days ago",
                "la liste des clés de l'éditeur était valable jusqu'au {until}, il y a {days} jours"
            )
        }
        Finding::TakenBack { product, version, why } => both!(
            language,
            "the publisher took {product} {version} back: {why}",
            "l'éditeur a retiré {product} {version} : {why}"
        ),
        Finding::Revoked { key, since, why } => {
            let since = since.day();
            both!(
                language,
                "the key that signed it ({key}) was revoked on {since}: {why}",
                "la clé qui a signé ({key}) a été révoquée le {since} : {why}"
            )
        }
        Finding::OutOfTime { key, until } => {
            let until = until.day();
            both!(
                language,
                "the key that signed it ({key}) counts no longer since {until}",
                "la clé qui a signé ({key}) ne compte plus depuis le {until}"
            )
        }
        Finding::Unconfirmed { key, root } => both!(
            language,
            "the key was replaced ({key}), and only an unknown root key says so ({root})",
            "la clé a été remplacée ({key}), et seule une clé maîtresse inconnue l'affirme ({root})"
        ),
        Finding::Clock { now, issued } => {
            let (now, issued) = (now.day(), issued.day());
            both!(
                language,
                "this machine's clock says {now}, which is before the release of {issued}",
                "l'horloge de cette machine indique le {now}, avant la publication du {issued}"
            )
        }
        Finding::Missing { name } => both!(language, "`{name}` is missing", "`{name}` manque"),
        Finding::Key { words } => {
            both!(language, "the key cannot be used: {words}", "la clé est inutilisable : {words}")
        }
        Finding::Unreachable { place, words } => {
            both!(language, "`{place}` cannot be read: {words}", "`{place}` ne peut pas être lu : {words}")
        }
    }
}

/// Returns what a person can do.
pub fn advice(finding: &Finding, language: Language) -> String {
    match finding {
        Finding::NoSignature { .. } | Finding::NoStatement { .. } => both!(
            language,
            "do not use it; download it again from the publisher's own place",
            "ne l'utilisez pas ; téléchargez-le à nouveau depuis le site de l'éditeur"
        ),
        Finding::UnknownKey { certificate: true, .. } => both!(
            language,
            "ask the publisher for something that is signed with their key",
            "demandez à l'éditeur une version signée avec sa clé"
        ),
        Finding::UnknownKey { .. } => both!(
            language,
            "compare the fingerprint with the one on paper; if it is the same, `parvis trust add FILE` with the publisher's key, then try again",
            "comparez l'empreinte avec celle du papier ; si c'est la même, `parvis trust add FICHIER` avec la clé de l'éditeur, puis réessayez"
        ),
        Finding::Changed { .. } | Finding::Missing { .. } => both!(
            language,
            "download it again; if it happens again, tell the publisher and do not use it",
            "téléchargez-le à nouveau ; si cela se répète, prévenez l'éditeur et ne l'utilisez pas"
        ),
        Finding::Unlisted { .. } => both!(
            language,
            "do not use it; take it away, or ask whom it came from",
            "ne l'utilisez pas ; retirez-le, ou demandez à la personne qui vous l'a donné"
        ),
        Finding::Other { .. } => both!(
            language,
            "do not use it; if you moved it to another place on purpose, say its first name with `--repository`",
            "ne l'utilisez pas ; si vous l'avez déplacé exprès, donnez son nom d'origine avec `--repository`"
        ),
        Finding::OtherNumber { .. } => both!(
            language,
            "do not use it under this number: a number never stands for two releases; tell whoever publishes there",
            "ne l'utilisez pas sous ce numéro : un numéro ne désigne jamais deux versions ; prévenez qui publie à cet endroit"
        ),
        Finding::Broken { .. } => both!(
            language,
            "do not use it; restore the folder `rebuilds/` from version control, or ask whoever rebuilt",
            "ne l'utilisez pas ; restaurez le dossier `rebuilds/` depuis votre dépôt, ou demandez à la personne qui a reconstruit"
        ),
        Finding::Older { .. } => both!(
            language,
            "take the newest release; to go back on purpose, add `--allow-older`",
            "prenez la version la plus récente ; pour revenir en arrière exprès, ajoutez `--allow-older`"
        ),
        Finding::Twice { .. } => both!(
            language,
            "do not use it; ask the publisher which of the two is theirs",
            "ne l'utilisez pas ; demandez à l'éditeur laquelle des deux est la sienne"
        ),
        Finding::Expired { product: Some(_), .. } => both!(
            language,
            "take a newer release; if there is none, ask the publisher whether somebody hides it from you",
            "prenez une version plus récente ; s'il n'y en a pas, demandez à l'éditeur si quelqu'un vous la cache"
        ),
        Finding::Expired { product: None, .. } => both!(
            language,
            "get the publisher's newest `keyring.sigstore.json`, then `parvis trust add keyring.sigstore.json`",
            "procurez-vous le `keyring.sigstore.json` récent de l'éditeur, puis `parvis trust add keyring.sigstore.json`"
        ),
        Finding::TakenBack { .. } => both!(
            language,
            "take a newer release, or the one before it, which may be used again",
            "prenez une version plus récente, ou la précédente, qui peut de nouveau servir"
        ),
        Finding::Revoked { .. } | Finding::OutOfTime { .. } => both!(
            language,
            "do not use it; take a release that was signed with the key of now",
            "ne l'utilisez pas ; prenez une version signée avec la clé actuelle"
        ),
        Finding::Unconfirmed { .. } => both!(
            language,
            "do not use it before the publisher has told you, another way, that the key was replaced",
            "ne l'utilisez pas avant que l'éditeur vous ait confirmé, par une autre voie, le remplacement de la clé"
        ),
        Finding::Clock { .. } => both!(
            language,
            "set the clock of this machine (`timedatectl set-ntp true`), then try again",
            "réglez l'horloge de cette machine (`timedatectl set-ntp true`), puis réessayez"
        ),
        Finding::Key { .. } => both!(
            language,
            "name the file with the publisher's public key, which ends in `.pub`",
            "indiquez le fichier de la clé publique de l'éditeur, qui se termine par `.pub`"
        ),
        Finding::Unreachable { .. } => both!(
            language,
            "this is no bad signature: check the name and the network, then try again",
            "ce n'est pas une mauvaise signature : vérifiez le nom et le réseau, puis réessayez"
        ),
    }
}

/// Returns why a signature that is there cannot be judged at all.
pub fn nobody_trusted(language: Language) -> String {
    both!(
        language,
        "could not decide: it is signed, but nobody has said on this machine whose signatures count",
        "impossible de décider : c'est signé, mais personne n'a dit sur cette machine quelles signatures comptent"
    )
}

/// Returns what stands before the code of a verdict that is not good.
pub fn verdict(refused: bool, language: Language) -> String {
    if refused { both!(language, "refused", "refusé") } else { both!(language, "could not decide", "impossible de décider") }
}
