//! What a bundle says to the person who runs it: README and LISEZMOI, and a script that does the usual start in one step.

use std::fmt::Write as _;

use super::manifest::{ARCHIVE, Backup, BundledService, COMPOSE, Contents, SETTINGS, VolumeKind, When};
use crate::model::digest::FileDigest;

pub(super) const ENGLISH: &str = "README.md";
pub(super) const FRENCH: &str = "LISEZMOI.md";
pub(super) const START: &str = "start.sh";

/// How compose is typed; a guide says what it is called elsewhere.
const COMPOSE_COMMAND: &str = "docker compose";

/// How compose is told to run a job beside what runs: nothing else is started, and no terminal is asked for.
const RUN: &str = "run --rm --no-deps -T";

/// Returns the jobs of a time.
fn jobs(contents: &Contents, when: When) -> impl Iterator<Item = &BundledService> {
    contents.services.iter().filter(move |service| service.when == Some(when))
}

/// Writes one argument for a shell.
fn word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:=@,+".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Returns a command of the bundle as a person types it.
fn typed(service: &str, command: &[String], compose: &str) -> String {
    let program = command.first().map(String::as_str).unwrap_or_default();
    let arguments: String = command.iter().skip(1).fold(String::new(), |line, argument| line + " " + &word(argument));
    format!("{compose} {RUN} --entrypoint {} {service}{arguments}", word(program))
}

/// Puts the default of each parameter into a text with `${VARIABLE}`.
fn by_default(contents: &Contents, text: &str) -> String {
    contents
        .parameters
        .iter()
        .fold(text.to_owned(), |text, parameter| text.replace(&format!("${{{}}}", parameter.variable), &parameter.default))
}

/// Returns the lines that save each file of a backup, and those that take it back.
fn backup_lines(contents: &Contents) -> (String, String) {
    let (mut save, mut restore) = (String::new(), String::new());
    for item in &contents.backup {
        let file = item.file();
        match item {
            Backup::Command { service, save: out, restore: back, .. } => {
                let _ = writeln!(save, "{} > {file}", typed(service.as_str(), out, COMPOSE_COMMAND));
                let _ = writeln!(restore, "{} < {file}", typed(service.as_str(), back, COMPOSE_COMMAND));
            }
            Backup::Volume { service, at, .. } => {
                let pack = ["tar", "-C", at, "-cf", "-", "."].map(str::to_owned);
                let unpack = ["tar", "-C", at, "-xpf", "-"].map(str::to_owned);
                let _ = writeln!(save, "{} > {file}", typed(service.as_str(), &pack, COMPOSE_COMMAND));
                let _ = writeln!(restore, "{} < {file}", typed(service.as_str(), &unpack, COMPOSE_COMMAND));
            }
        }
    }
    (save, restore)
}

/// Returns a table of the volumes with data.
fn volumes(contents: &Contents) -> String {
    let data = contents.volumes.iter().filter(|volume| volume.kind == VolumeKind::Data);
    data.fold(String::new(), |mut text, volume| {
        let _ = writeln!(text, "| `{}_{}` | {} |", contents.name, volume.name, volume.description.replace('|', "\\|"));
        text
    })
}

/// Returns the steps of an update: keys first, because a new version may need more of them.
fn update_lines(contents: &Contents) -> String {
    let before = jobs(contents, When::Every).chain(jobs(contents, When::Upgrade));
    before.fold(String::new(), |mut text, job| {
        let _ = writeln!(text, "{COMPOSE_COMMAND} {RUN} {}", job.name);
        text
    })
}

/// What both guides say, each in its language.
struct Facts {
    /// The address and the user's name with the defaults, and what shows the password.
    login: Option<(String, String, String)>,
    /// The lines that save each file of a backup, and those that take it back.
    save: String,
    restore: String,
    /// How the jobs for work by hand are typed.
    manual: String,
    /// The lines of an update and, before them, those with which images that travel along are loaded.
    load: String,
    update: String,
    volumes: String,
}

impl Facts {
    fn new(contents: &Contents, travelling: bool) -> Self {
        let login = contents.login.as_ref().map(|login| {
            let command = typed(login.service.as_str(), &login.command, COMPOSE_COMMAND);
            (by_default(contents, &login.url), by_default(contents, &login.user), command)
        });
        let (save, restore) = backup_lines(contents);
        let manual: Vec<String> =
            jobs(contents, When::Manual).map(|job| format!("`{COMPOSE_COMMAND} run --rm {}`", job.name)).collect();
        Self {
            login,
            save,
            restore,
            manual: manual.join(", "),
            load: if travelling { format!("docker load -i {ARCHIVE}\n") } else { String::new() },
            update: update_lines(contents),
            volumes: volumes(contents),
        }
    }
}

/// Returns the guide in English.
pub(super) fn english(contents: &Contents, travelling: bool) -> String {
    let Contents { name, version, description, .. } = contents;
    let facts = Facts::new(contents, travelling);
    let mut out = format!(
        "# {name} {version}\n\n{description}\n\n(Ce texte existe en français : `{FRENCH}`.)\n\n\
         ## Start\nYou need Docker 20.10 or newer, with compose. In this folder:\n\n```\n./{START}\n```\n\n\
         It checks the files, {loads}starts everything and says where to look. The same by hand:\n\n```\n{load}docker compose up -d\n```\n\n\
         An older compose is called `docker-compose`, with a hyphen: write it that way then.\n\n\
         What may be chosen — name, port, and so on — stands in `{SETTINGS}`, with a line on each.\n",
        loads = if travelling { "hands the images to Docker, " } else { "" },
        load = facts.load,
    );
    if let Some((url, user, command)) = &facts.login {
        let _ = write!(
            out,
            "\n## Log in\nOpen {url} and log in as `{user}`. The password was made at the first start; this shows it:\n\n```\n{command}\n```\n\n\
             **Your browser warns** that it does not know who vouches for the certificate. That is expected: the certificate was made on \
             this machine at the first start, and nobody outside can know it. The connection is encrypted all the same. On any other \
             machine than your own, compare the certificate's fingerprint before you go on.\n",
        );
    }
    let Facts { save, restore, manual, load, update, volumes, .. } = &facts;
    let _ = write!(
        out,
        "\n## Look, stop, begin anew\n\
         - `docker compose ps` says what runs, `docker compose logs` what it says.\n\
         - `docker compose stop` stops it, `docker compose up -d` starts it again. Nothing is lost.\n\
         - `docker compose down` removes the containers. The data stay.\n\
         - `docker compose down -v` removes **the data, the keys and the passwords** as well.\n"
    );
    if !manual.is_empty() {
        let _ = writeln!(out, "- For work by hand: {manual}.");
    }
    if !save.is_empty() {
        let _ = write!(
            out,
            "\n## Backup\n```\n{save}```\n\nBack, into a running stack:\n\n```\n{restore}docker compose restart\n```\n\n\
             Keep the files where nobody else can read them. They hold no keys: a new machine makes its own.\n"
        );
    }
    let _ = write!(
        out,
        "\n## A new version\nUnpack it into a folder of its own, copy your `{SETTINGS}` choices there, and in the new folder run `./{START}`; \
         or by hand, in this order, so that a step that fails leaves the old version running:\n\n```\n{load}{update}docker compose up -d\n```\n\n\
         Make a backup first.\n",
    );
    let _ = write!(
        out,
        "\n## Where the data are\nIn volumes of Docker (`docker volume ls`), not in this folder:\n\n| volume | what |\n|---|---|\n{volumes}",
    );
    out
}

/// Returns the guide in French.
pub(super) fn french(contents: &Contents, travelling: bool) -> String {
    let Contents { name, version, .. } = contents;
    let facts = Facts::new(contents, travelling);
    let mut out = format!(
        "# {name} {version}\n\n(This text exists in English: `{ENGLISH}`.)\n\n\
         ## Démarrer\nIl faut Docker 20.10 ou plus récent, avec compose. Dans ce dossier :\n\n```\n./{START}\n```\n\n\
         Le script vérifie les fichiers, {loads}démarre tout et dit où aller. La même chose à la main :\n\n```\n{load}docker compose up -d\n```\n\n\
         Un compose plus ancien s'appelle `docker-compose`, avec un trait d'union : écrivez-le alors ainsi.\n\n\
         Ce qui se choisit (nom, port, etc.) se trouve dans `{SETTINGS}`, avec une ligne d'explication pour chaque réglage.\n",
        loads = if travelling { "remet les images à Docker, " } else { "" },
        load = facts.load,
    );
    if let Some((url, user, command)) = &facts.login {
        let _ = write!(
            out,
            "\n## Se connecter\nOuvrez {url} et connectez-vous comme `{user}`. Le mot de passe a été créé au premier démarrage ; ceci l'affiche :\n\n\
             ```\n{command}\n```\n\n\
             **Votre navigateur vous avertit** qu'il ne sait pas qui se porte garant du certificat. C'est normal : le certificat a été créé \
             sur cette machine au premier démarrage, et personne d'autre ne peut le connaître. La connexion est tout de même chiffrée. \
             Sur une autre machine que la vôtre, comparez l'empreinte du certificat avant de continuer.\n",
        );
    }
    let Facts { save, restore, manual, load, update, volumes, .. } = &facts;
    let _ = write!(
        out,
        "\n## Regarder, arrêter, repartir de zéro\n\
         - `docker compose ps` dit ce qui tourne, `docker compose logs` ce qui s'y dit.\n\
         - `docker compose stop` arrête tout, `docker compose up -d` redémarre. Rien n'est perdu.\n\
         - `docker compose down` supprime les conteneurs. Les données restent.\n\
         - `docker compose down -v` supprime aussi **les données, les clés et les mots de passe**.\n"
    );
    if !manual.is_empty() {
        let _ = writeln!(out, "- Pour travailler à la main : {manual}.");
    }
    if !save.is_empty() {
        let _ = write!(
            out,
            "\n## Sauvegarder\n```\n{save}```\n\nRemettre, quand tout tourne :\n\n```\n{restore}docker compose restart\n```\n\n\
             Gardez ces fichiers là où personne d'autre ne peut les lire. Ils ne contiennent pas de clés : une nouvelle machine crée les siennes.\n"
        );
    }
    let _ = write!(
        out,
        "\n## Une nouvelle version\nDécompressez-la dans un dossier à part, reportez-y vos choix de `{SETTINGS}`, puis lancez `./{START}` dans \
         le nouveau dossier ; ou à la main, dans cet ordre, pour qu'une étape qui échoue laisse tourner l'ancienne version :\n\n\
         ```\n{load}{update}docker compose up -d\n```\n\nFaites d'abord une sauvegarde.\n",
    );
    let _ = write!(
        out,
        "\n## Où sont les données\nDans des volumes de Docker (`docker volume ls`), pas dans ce dossier :\n\n| volume | quoi |\n|---|---|\n{volumes}",
    );
    out
}

/// Returns a script for `/bin/sh` that starts the stack: files and images are checked, then as by hand.
///
/// What it does beyond `docker load` and `up`: it refuses a damaged download, loads only what is missing, refuses an image whose Id is
/// not the one that was built, has the services run that Id and not whatever bears the name later, and migrates before it replaces.
pub(super) fn start(contents: &Contents, archive: Option<&FileDigest>, compose: &FileDigest) -> String {
    let mut checks = format!("check {COMPOSE} {compose}\n");
    let mut images = String::new();
    if let Some(digest) = archive {
        for image in &contents.images {
            let _ = writeln!(images, "image {} {} {} {}", image.variable, image.reference, image.config, image.manifest);
        }
        images.insert_str(0, "missing=\n");
        let _ = write!(
            images,
            "if [ -n \"$missing\" ]; then\n    check {ARCHIVE} {digest}\n    say \"handing the images to Docker\" \"remise des images à Docker\"\n    \
             docker load -q -i {ARCHIVE} >/dev/null || fail \"docker cannot load the images\" \"docker ne peut pas charger les images\"\n    \
             missing=\n"
        );
        for image in &contents.images {
            let _ = writeln!(images, "    image {} {} {} {}", image.variable, image.reference, image.config, image.manifest);
        }
        images.push_str(
            "    [ -z \"$missing\" ] || fail \"these images are not those of this bundle:$missing\" \
             \"ces images ne sont pas celles de ce paquet :$missing\"\nfi\n",
        );
    }
    checks.push('\n');
    let running = contents.services.iter().find(|service| service.when.is_none());
    let mut migrate = String::new();
    if let Some(service) = running {
        let before = jobs(contents, When::Every).chain(jobs(contents, When::Upgrade));
        let before: Vec<&str> = before.map(|job| job.name.as_str()).collect();
        let _ = write!(
            migrate,
            "# What runs goes on running until its data are ready for the new version.\nif [ -n \"$(compose ps -q {} 2>/dev/null)\" ]; then\n    \
             for job in {}; do\n        compose run --rm --no-deps -T \"$job\" || fail \"the step $job failed; what ran before still runs\" \
             \"l'étape $job a échoué ; ce qui tournait tourne encore\"\n    done\nfi\n",
            service.name,
            before.join(" "),
        );
    }
    let end = contents.login.as_ref().map_or_else(String::new, |login| {
        let command = typed(login.service.as_str(), &login.command, "");
        let template = |text: &str| text.replace('"', "\\\"").replace('`', "\\`");
        let values = contents.parameters.iter().fold(String::new(), |mut lines, parameter| {
            if login.url.contains(&format!("${{{}}}", parameter.variable)) || login.user.contains(&format!("${{{}}}", parameter.variable)) {
                let _ = writeln!(lines, "{0}=$(value {0} {1})", parameter.variable, word(&parameter.default));
            }
            lines
        });
        format!(
            "{values}say \"open {url} and log in as {user}; this shows the password:\" \"ouvrez {url} et connectez-vous comme {user} ; ceci \
             affiche le mot de passe :\"\nprintf '%s%s\\n' \"$compose\" {shown}\n",
            url = template(&login.url),
            user = template(&login.user),
            shown = word(&command),
        )
    });
    format!("{HEAD}{checks}{images}{migrate}compose up -d\n{end}")
}

/// The functions of the script.
const HEAD: &str = r#"#!/bin/sh
# Starts what is in this folder: checks the files, loads the images that are missing, migrates, starts.
set -eu
cd "$(dirname "$0")"

say() {
    case ${LC_ALL:-${LC_MESSAGES:-${LANG:-}}} in fr*) printf '%s\n' "$2" ;; *) printf '%s\n' "$1" ;; esac
}
fail() {
    say "error: $1" "erreur : $2" >&2
    exit 1
}
# A plugin of docker or, before there were plugins, a program of its own.
compose='docker compose'
$compose version >/dev/null 2>&1 || compose=docker-compose
compose() {
    $compose "$@"
}
check() {
    [ "$(sha256sum < "$1" | cut -d ' ' -f 1)" = "$2" ] ||
        fail "$1 was changed or is not whole; download it again" "$1 a été modifié ou est incomplet ; téléchargez-le de nouveau"
}
# Has the services run the very image that was built, if Docker has it: variable, name, and the two Ids that engines give it.
image() {
    id=$(docker image inspect --format '{{.Id}}' "$2" 2>/dev/null) || id=
    case $id in
        "$3" | "$4") setting "$1" "$id" ;;
        *) missing="$missing $2" ;;
    esac
}
setting() {
    { grep -v "^$1=" .env || :; printf '%s=%s\n' "$1" "$2"; } > .env.new
    cat .env.new > .env
    rm -f .env.new
}
# Prints a value of .env, or else the default. Quotes around it are taken away.
value() {
    found=$(sed -n "s/^$1=//p" .env | tail -n 1)
    found=${found#[\"\']}
    found=${found%[\"\']}
    printf '%s' "${found:-$2}"
}

docker version >/dev/null 2>&1 ||
    fail "Docker does not answer; is it installed, running, and may you use it?" "Docker ne répond pas ; est-il installé, en marche, et y avez-vous droit ?"
compose version >/dev/null 2>&1 ||
    fail "compose is missing; install docker-compose" "compose manque ; installez docker-compose"
"#;
