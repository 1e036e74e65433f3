//! Everything that `parvis verify --rebuild` says, in every language it says it in.

use crate::failure::Failure;
use crate::model::language::{Language, both};
use crate::trust::rebuilt::{Cause, Rebuilt, RebuiltFile, Verdict};
use crate::verbs::in_language;

/// Files of an image that are shown; the answer in JSON has more.
const MOST_SHOWN: usize = 20;

/// Returns the verdict as one sentence.
pub fn sentence(answer: &Rebuilt, language: Language) -> String {
    let Rebuilt { product, version, .. } = answer;
    let on = answer.platforms.join(", ");
    let count = answer.images.len();
    let other = answer.images.iter().filter(|image| !image.same).count();
    match answer.verdict {
        Verdict::Same => both!(
            language,
            "the same: {count} images of {product} {version} were built again and have the very digests that were signed ({on})",
            "identique : {count} images de {product} {version} ont été reconstruites et ont exactement les empreintes signées ({on})"
        ),
        Verdict::Differs if count == 0 => both!(
            language,
            "it differs: {product} {version} was not made from the lock of its commit",
            "différent : {product} {version} n'est pas faite à partir du verrou de son commit"
        ),
        Verdict::Differs if other == 0 => {
            let (all, unlike) = (answer.documents.len(), answer.documents.iter().filter(|document| !document.same).count());
            both!(
                language,
                "it differs: the images of {product} {version} are what their commit gives, but {unlike} of {all} signed lists and bundle files are not ({on})",
                "différent : les images de {product} {version} sont bien ce que donne leur commit, mais pas {unlike} des {all} inventaires et fichiers signés ({on})"
            )
        }
        Verdict::Differs => both!(
            language,
            "it differs: {other} of {count} images of {product} {version} are not what their commit, lock and packages give ({on})",
            "différent : {other} images sur {count} de {product} {version} ne sont pas ce que donnent leur commit, leur verrou et leurs paquets ({on})"
        ),
        Verdict::Undecided => both!(
            language,
            "could not decide whether {product} {version} can be built again",
            "impossible de dire si {product} {version} peut être reconstruite"
        ),
    }
}

/// Returns what is shown of the images.
pub fn lines(answer: &Rebuilt, language: Language) -> Vec<String> {
    let mut lines = Vec::new();
    for image in answer.images.iter().filter(|image| !image.same) {
        let (name, platform) = (&image.name, &image.platform);
        let other = image.other_layers.len();
        let all = image.layers;
        lines.push(both!(
            language,
            "{name} ({platform}): {other} of {all} layers differ",
            "{name} ({platform}) : {other} couches sur {all} diffèrent"
        ));
        let (released, rebuilt) = (&image.released, &image.rebuilt);
        lines.push(both!(language, "  released  {released}", "  publiée      {released}"));
        lines.push(both!(language, "  rebuilt   {rebuilt}", "  reconstruite {rebuilt}"));
        lines.extend(image.other_layers.iter().map(|title| both!(language, "  layer: {title}", "  couche : {title}")));
        lines.extend(image.settings.iter().map(|name| both!(language, "  setting: {name}", "  réglage : {name}")));
        for file in image.files.iter().take(MOST_SHOWN) {
            lines.push(file_line(file, language));
            lines.push(format!("      {}", file.why));
        }
        let more = image.files.len().saturating_sub(MOST_SHOWN) + image.more_files;
        if more > 0 {
            lines.push(both!(language, "  and {more} more files", "  et {more} autres fichiers"));
        }
        if let Some(why) = &image.unread {
            lines.push(both!(
                language,
                "  which files, is not known: the released image cannot be read ({why})",
                "  on ne sait pas quels fichiers : l'image publiée ne peut pas être lue ({why})"
            ));
        }
    }
    lines.extend(document_lines(answer, language));
    if answer.verdict == Verdict::Same {
        lines.push(answer.sentence.clone());
    }
    lines.extend(
        answer
            .attested
            .iter()
            .map(|place| both!(language, "the verdict hangs, signed, on {place}", "le verdict signé est attaché à {place}")),
    );
    lines
}

/// Returns what is shown of lists and bundle files.
fn document_lines(answer: &Rebuilt, language: Language) -> Vec<String> {
    let mut lines = Vec::new();
    for document in answer.documents.iter().filter(|document| !document.same) {
        let name = &document.name;
        lines.push(match (&document.released, &document.rebuilt) {
            (Some(_), None) => both!(
                language,
                "{name}: signed, and nothing at the release's commit makes it",
                "{name} : signé, et rien dans le commit de la version ne le fabrique"
            ),
            (None, _) => both!(
                language,
                "{name}: made from the release's commit, and not in the release",
                "{name} : fabriqué à partir du commit de la version, et absent de celle-ci"
            ),
            (Some(_), Some(_)) => both!(language, "{name} differs", "{name} diffère"),
        });
        for (label, digest) in [
            (both!(language, "released ", "publié     "), &document.released),
            (both!(language, "rebuilt  ", "reconstruit"), &document.rebuilt),
        ] {
            lines.extend(digest.iter().map(|digest| format!("  {label} {digest}")));
        }
        lines.extend(document.differences.iter().map(|difference| format!("  {difference}")));
        let more = document.more;
        if more > 0 {
            lines.push(both!(language, "  and {more} more", "  et {more} autres"));
        }
        if let Some(why) = &document.unread {
            lines.push(both!(language, "  in what, is not known: {why}", "  on ne sait pas en quoi : {why}"));
        }
    }
    let all = answer.documents.len();
    if let Some(other) = answer.made_by.as_ref().filter(|other| **other != answer.parvis && !lines.is_empty()) {
        let own = &answer.parvis;
        lines.push(both!(
            language,
            "parvis {other} made the release, and this is parvis {own}: lists and guides may differ for that alone, and do not count",
            "la version a été faite avec parvis {other}, et ceci est parvis {own} : inventaires et guides peuvent différer pour cela seul, et ne comptent pas"
        ));
    } else if lines.is_empty() && all > 0 {
        lines.push(both!(
            language,
            "{all} signed lists and bundle files are the same",
            "{all} inventaires et fichiers signés sont identiques"
        ));
    }
    lines
}

fn file_line(file: &RebuiltFile, language: Language) -> String {
    let RebuiltFile { path, owner, .. } = file;
    let how = match file.kind.as_str() {
        "added" => language.choose("missing in the released image", "absent de l'image publiée"),
        "removed" => language.choose("only in the released image", "seulement dans l'image publiée"),
        _ => language.choose("differs", "diffère"),
    };
    let owner = if owner.is_empty() { language.choose("of nobody", "à personne") } else { owner };
    let aspects = if file.aspects.is_empty() { String::new() } else { format!("; {}", file.aspects.join(", ")) };
    format!("  {path}: {how} ({owner}{aspects})")
}

/// Returns why a file could differ.
pub fn why(cause: Cause, name: &str, version: &str, language: Language) -> String {
    match cause {
        Cause::Package => both!(
            language,
            "the package `{name}` {version} that the release keeps has it otherwise: the released image was not made from it alone",
            "le paquet `{name}` {version} conservé par la version l'a autrement : l'image publiée n'est pas faite de lui seul"
        ),
        Cause::Script => both!(
            language,
            "a script of the package `{name}` makes it, and made something else: it depends on the machine or the day, or did not run alike",
            "un script du paquet `{name}` le fabrique, et a donné autre chose : il dépend de la machine ou du jour, ou n'a pas été exécuté de même"
        ),
        Cause::Recipe => both!(
            language,
            "the recipe at the release's commit (`{name}`) has it otherwise: the released image was made from something else",
            "la recette du commit publié (`{name}`) l'a autrement : l'image publiée a été faite à partir d'autre chose"
        ),
        Cause::Command => both!(
            language,
            "a command of the recipe (`{name}`) makes it, and made something else: it depends on the machine or the day, or was another one",
            "une commande de la recette (`{name}`) le fabrique, et a donné autre chose : elle dépend de la machine ou du jour, ou était une autre"
        ),
        Cause::Composer => both!(
            language,
            "Composer installs it from the kept `{name}`, which has it otherwise",
            "Composer l'installe depuis `{name}` conservé, qui l'a autrement"
        ),
        Cause::Database => both!(
            language,
            "it is the list of installed packages: it follows from what else differs",
            "c'est la liste des paquets installés : elle découle du reste"
        ),
        Cause::Nobody => {
            both!(language, "neither the lock nor the recipes put it there", "ni le verrou ni les recettes ne le mettent là")
        }
    }
}

/// Returns the outcome as this command ends: 0, 1 or 3.
pub fn outcome(answer: &Rebuilt, language: Language) -> Result<(), Failure> {
    let failure = match answer.verdict {
        Verdict::Same => return Ok(()),
        Verdict::Differs => Failure::no(answer.sentence.clone()).maybe_because(answer.reason.clone()).hint(language.choose(
            "do not rely on it before the publisher has explained the differences",
            "ne vous y fiez pas avant que l'éditeur ait expliqué les différences",
        )),
        Verdict::Undecided => {
            Failure::world(answer.sentence.clone()).maybe_because(answer.reason.clone()).maybe_hint(answer.advice.clone())
        }
    };
    Err(in_language(failure, language))
}

/// Returns the verdict on something that is no release, and so has neither a lock nor packages.
pub fn no_release(target: &str, language: Language) -> Failure {
    let failure = Failure::world(both!(
        language,
        "could not decide: `{target}` is signed, but by itself, and not as part of a release: nothing says what it was built from",
        "impossible de décider : `{target}` est signé, mais seul et non dans une version : rien ne dit de quoi il est fait"
    ));
    let hint = both!(
        language,
        "name a download of the release, its folder, or one of its images in the registry",
        "indiquez un téléchargement de la version, son dossier, ou l'une de ses images dans le registre"
    );
    in_language(failure.hint(hint), language)
}

pub fn nowhere_to_attest(language: Language) -> Failure {
    let failure = Failure::project(both!(
        language,
        "the release names no registry: there is no image on which a signed verdict could hang",
        "la version n'indique aucun registre : il n'y a pas d'image à laquelle attacher un verdict signé"
    ));
    in_language(
        failure.hint(both!(
            language,
            "name one with `--kept-in`, or leave out `--attest`",
            "indiquez-en un avec `--kept-in`, ou retirez `--attest`"
        )),
        language,
    )
}

/// The reasons why there is no answer: their texts become part of it.
pub fn keeps_nothing(language: Language) -> Failure {
    Failure::world(both!(
        language,
        "the release names no registry that keeps its packages",
        "la version n'indique aucun registre qui conserve ses paquets"
    ))
    .hint(both!(language, "name it with `--kept-in REGISTRY/PREFIX`", "indiquez-le avec `--kept-in REGISTRE/PREFIXE`"))
}

pub fn no_project(cause: &Failure, language: Language) -> Failure {
    let cause = cause.message();
    Failure::project(both!(language, "the recipes are not here: {cause}", "les recettes ne sont pas ici : {cause}")).hint(both!(
        language,
        "go to a checkout of the project, or name it with `-C FOLDER`",
        "allez dans une copie du projet, ou indiquez-la avec `-C DOSSIER`"
    ))
}

pub fn other_checkout(folder: &str, commit: &str, language: Language) -> Failure {
    Failure::project(both!(
        language,
        "the recipes in `{folder}` are not those of the release: its lock is another one, and it does not know the commit {commit}",
        "les recettes de `{folder}` ne sont pas celles de la version : son verrou est un autre, et le commit {commit} y est inconnu"
    ))
    .hint(check_out(commit, language))
}

pub fn check_out(commit: &str, language: Language) -> String {
    both!(
        language,
        "fetch the project's repository so that it has the commit {commit}, or check out the numbered source of the release",
        "récupérez le dépôt du projet avec le commit {commit}, ou la source numérotée de la version"
    )
}

pub fn other_recipes(cause: &Failure, language: Language) -> Failure {
    let message = cause.message();
    Failure::project(both!(
        language,
        "the recipes do not fit the release: {message}",
        "les recettes ne correspondent pas à la version : {message}"
    ))
    .maybe_because(std::error::Error::source(cause).map(ToString::to_string))
    .maybe_hint(cause.hint_text())
}

pub fn other_project(found: &str, expected: &str, language: Language) -> Failure {
    Failure::project(both!(
        language,
        "the recipes are those of `{found}`, and the release is of `{expected}`",
        "les recettes sont celles de `{found}`, et la version est de `{expected}`"
    ))
}

pub fn no_platform(platform: &str, language: Language) -> Failure {
    Failure::project(both!(
        language,
        "the release and the project do not both have images for `{platform}`",
        "la version et le projet n'ont pas tous deux des images pour `{platform}`"
    ))
    .hint(both!(language, "choose with `--platform`", "choisissez avec `--platform`"))
}

pub fn no_lock(language: Language) -> Failure {
    Failure::world(both!(
        language,
        "the lock of the release is nowhere: not at its commit, nor in the project's records, nor beside the statement",
        "le verrou de la version est introuvable : ni à son commit, ni dans les fiches du projet, ni à côté de la déclaration"
    ))
    .hint(both!(
        language,
        "put its `parvis.lock` beside the statement",
        "mettez son `parvis.lock` à côté de la déclaration"
    ))
}

/// Why a release cannot be what it says.
pub fn other_lock(commit: &str, language: Language) -> String {
    both!(
        language,
        "the lock that was signed is not the one that the commit {commit} has",
        "le verrou signé n'est pas celui du commit {commit}"
    )
}

/// Why different digests prove nothing here.
pub fn unproven(commit: &str, language: Language) -> String {
    both!(
        language,
        "the digests differ, but the recipes are those of a folder of which nothing proves that it is the commit {commit}",
        "les empreintes diffèrent, mais rien ne prouve que les recettes du dossier sont celles du commit {commit}"
    )
}

pub fn not_there(place: &str, sentence: &str, language: Language) -> Failure {
    in_language(
        Failure::world(both!(
            language,
            "{sentence}; but the registry has no `{place}` on which that could hang",
            "{sentence} ; mais le registre n'a pas `{place}` auquel l'attacher"
        )),
        language,
    )
}
