//! `parvis key`: keys that sign, and the root key that vouches for them.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Answer, Context};
use crate::edge::keys::{self, Keys, KeysError, Passphrase};
use crate::failure::Failure;
use crate::model::moment::Moment;
use crate::model::name::KeyName;
use crate::trust::key::{PublicKey, SigningKey};
use crate::trust::keyring::{Keyring, ReleaseKey, RevokedKey};

/// The key that signs where none is named.
pub const RELEASE: &str = "release";

const DAY: i64 = 86_400;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a key; where the root key is at hand, it vouches for the new one
    New {
        /// Name of the key (default: `release`, or `root` with `--root`)
        name: Option<KeyName>,
        /// Make the root key, which signs nothing but the list of keys that sign releases: keep it off line
        #[arg(long)]
        root: bool,
        #[command(flatten)]
        options: Options,
    },
    /// Show keys with their fingerprints, and what the root key vouches for
    Show {
        /// Name of a key (default: all)
        name: Option<KeyName>,
    },
    /// Replace a key by a new one, or only renew the list that the root key signs
    Rotate {
        /// Name of the key
        #[arg(default_value = RELEASE)]
        name: KeyName,
        /// Take this public key, which was made on another machine, instead of making one here
        #[arg(long, value_name = "FILE", conflicts_with = "renew")]
        public: Option<PathBuf>,
        /// Nothing that the old key ever signed counts any more: say why, as others will read it
        #[arg(long, value_name = "WHY", conflicts_with = "renew")]
        revoke: Option<String>,
        /// Make no new key: only let the list expire later
        #[arg(long)]
        renew: bool,
        #[command(flatten)]
        options: Options,
    },
}

#[derive(Debug, clap::Args)]
struct Options {
    #[command(flatten)]
    unlock: Unlock,
    /// File whose first line is the root key's passphrase (default: `$PARVIS_ROOT_PASSPHRASE`, else it is asked for)
    #[arg(long, value_name = "FILE")]
    root_passphrase_file: Option<PathBuf>,
    /// Days for which a new key signs
    #[arg(long, value_name = "DAYS", default_value_t = 730, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    /// Days after which the list that the root key signs has to be renewed
    #[arg(long, value_name = "DAYS", default_value_t = 400, value_parser = clap::value_parser!(u16).range(1..))]
    renew_within: u16,
}

/// How a key is opened.
#[derive(Debug, Default, clap::Args)]
pub struct Unlock {
    /// File whose first line is the passphrase (default: `$PARVIS_PASSPHRASE`, else it is asked for)
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// The key has no passphrase: whoever gets the file can sign
    #[arg(long, conflicts_with = "passphrase_file")]
    pub no_passphrase: bool,
}

/// What a passphrase is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// It opens a key, and a wrong one is noticed.
    Open,
    /// It closes a new key, and a mistyped one would never be known: it is asked for twice.
    Close,
}

impl Unlock {
    /// Returns the passphrase of a key that is there already.
    pub fn open(&self, key: &str, context: &Context<'_>) -> Result<Passphrase, Failure> {
        self.passphrase(key, context.passphrase.as_ref(), "PARVIS_PASSPHRASE", Purpose::Open, context)
    }

    /// Returns the passphrase of a key that is there, or of one that is being made; nothing where none is given and nobody can be asked.
    pub fn if_anybody(&self, key: &str, new: bool, context: &Context<'_>) -> Result<Option<Passphrase>, Failure> {
        if !self.no_passphrase && self.passphrase_file.is_none() && context.passphrase.is_none() {
            let purpose = if new { Purpose::Close } else { Purpose::Open };
            let Some(typed) = ask(key, purpose, context)? else { return Ok(None) };
            return Self::filled(key, typed).map(Some);
        }
        self.open(key, context).map(Some)
    }

    fn passphrase(
        &self,
        key: &str,
        environment: Option<&Passphrase>,
        variable: &str,
        purpose: Purpose,
        context: &Context<'_>,
    ) -> Result<Passphrase, Failure> {
        if self.no_passphrase {
            return Ok(Passphrase::new(String::new()));
        }
        let given = match (&self.passphrase_file, environment) {
            (Some(file), _) => Passphrase::read(file).map_err(from_keys)?,
            (None, Some(passphrase)) => passphrase.clone(),
            (None, None) => ask(key, purpose, context)?.ok_or_else(|| {
                Failure::project(format!("the key `{key}` needs a passphrase, and nobody is there to type it"))
                    .hint(format!("name a file with `--passphrase-file`, or set `{variable}`"))
            })?,
        };
        Self::filled(key, given)
    }

    fn filled(key: &str, given: Passphrase) -> Result<Passphrase, Failure> {
        if given.is_empty() {
            return Err(Failure::project(format!("the passphrase of the key `{key}` is empty"))
                .hint("choose one; if the key is really to have none, say so with `--no-passphrase`"));
        }
        Ok(given)
    }
}

/// Asks for a passphrase; returns nothing where nobody sits at a terminal.
fn ask(key: &str, purpose: Purpose, context: &Context<'_>) -> Result<Option<Passphrase>, Failure> {
    let Some(first) = context.screen.ask_secret(&format!("Passphrase of the key `{key}`:")) else { return Ok(None) };
    if purpose == Purpose::Close && context.screen.ask_secret("The same once more:").as_ref() != Some(&first) {
        return Err(Failure::project("the two passphrases differ").hint("run the same command again"));
    }
    Ok(Some(Passphrase::new(first)))
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let keys = Keys::new(&context.config);
    match &arguments.action {
        Action::New { name, root: true, options } => new_root(&keys, name.as_ref(), options, context),
        Action::New { name, root: false, options } => new(&keys, name.as_ref(), options, context),
        Action::Show { name } => show(&keys, name.as_ref(), context),
        Action::Rotate { name, public, revoke, renew, options } => {
            let replacement = match (renew, public) {
                (true, _) => Replacement::None,
                (false, Some(file)) => Replacement::Public(file),
                (false, None) => Replacement::Made,
            };
            rotate(&keys, name, &replacement, revoke.as_deref(), options, context)
        }
    }
}

/// Opens a key that signs: one of this user's own by its name, else one in a file.
pub fn open_key(text: &str, unlock: &Unlock, context: &Context<'_>) -> Result<SigningKey, Failure> {
    let passphrase = unlock.open(text, context)?;
    let own = Keys::new(&context.config);
    let file = std::path::Path::new(text);
    match text.parse::<KeyName>() {
        // What is no key of this user's may still be a file.
        Ok(name) if own.has(&name) || !file.exists() => own.open(&name, &passphrase).map_err(from_keys),
        _ => keys::signing_key(file, &passphrase).map_err(from_keys),
    }
}

/// Turns what the door of keys says into what a person reads.
pub fn from_keys(error: KeysError) -> Failure {
    let hint = error.hint();
    let because = std::error::Error::source(&error).map(ToString::to_string);
    let failure = if error.is_of_the_world() { Failure::world(error.to_string()) } else { Failure::project(error.to_string()) };
    failure.maybe_hint(hint).maybe_because(because)
}

fn named(name: Option<&KeyName>, default: &str) -> Result<KeyName, Failure> {
    name.cloned().map_or_else(|| default.parse().map_err(|error| Failure::bug("a key has no name").because(error)), Ok)
}

fn new_root(keys: &Keys, name: Option<&KeyName>, options: &Options, context: &Context<'_>) -> Answer {
    let name = named(name, "root")?;
    if let Some(keyring) = keys.keyring().map_err(from_keys)? {
        return Err(Failure::project(format!("there is a root key already: {}", keyring.root.fingerprint())).hint(format!(
            "one is enough; a second one needs a folder of its own (`XDG_CONFIG_HOME`), beside `{}`",
            keys.folder().display()
        )));
    }
    let passphrase = options.unlock.passphrase(
        name.as_str(),
        context.root_passphrase.as_ref(),
        "PARVIS_ROOT_PASSPHRASE",
        Purpose::Close,
        context,
    )?;
    let key = keys.make(&name, &passphrase).map_err(from_keys)?;
    let now = Moment(context.now);
    let keyring = Keyring::new(key.public().clone(), 1, now, after(now, options.renew_within));
    keep(keys, &keyring, &key)?;
    report(
        keys,
        &name,
        key.public(),
        context,
        &[
            "Print the fingerprint where those who get your releases find it, on paper if you can.".to_owned(),
            format!("Copy {} to two places off line; the key cannot be made again.", keys.private(&name).display()),
            "Next: `parvis key new` makes the key that signs.".to_owned(),
        ],
    );
    Ok(())
}

fn new(keys: &Keys, name: Option<&KeyName>, options: &Options, context: &Context<'_>) -> Answer {
    let name = named(name, RELEASE)?;
    if keys.has(&name) {
        return Err(from_keys(KeysError::Exists { path: keys.private(&name), name }));
    }
    // Whoever cannot open the root key is told before a key is made.
    let root = open_root(keys, options, context)?;
    let passphrase = close(&name, options, context)?;
    let key = keys.make(&name, &passphrase).map_err(from_keys)?;
    let advice = match root {
        Some((keyring, root)) => {
            vouch(keys, keyring, &root, &name, key.public(), options, context)?;
            format!("The root key vouches for it in {}: hand that file out with your releases.", keys.keyring_file().display())
        }
        None => format!(
            "Hand out {}. If a root key is kept elsewhere, let it vouch there: `parvis key rotate {name} --public {name}.pub`.",
            keys.public_file(&name).display()
        ),
    };
    report(keys, &name, key.public(), context, &[advice]);
    Ok(())
}

fn close(name: &KeyName, options: &Options, context: &Context<'_>) -> Result<Passphrase, Failure> {
    options.unlock.passphrase(name.as_str(), context.passphrase.as_ref(), "PARVIS_PASSPHRASE", Purpose::Close, context)
}

/// Opens the root key, where it is here, with the keyring as it is.
fn open_root(keys: &Keys, options: &Options, context: &Context<'_>) -> Result<Option<(Keyring, SigningKey)>, Failure> {
    let Some(keyring) = keys.keyring().map_err(from_keys)? else { return Ok(None) };
    let is_root = |name: &&KeyName| keys.public(name).is_ok_and(|key| key == keyring.root) && keys.has(name);
    let names = keys.names().map_err(from_keys)?;
    let Some(name) = names.iter().find(is_root) else { return Ok(None) };
    let unlock = Unlock { passphrase_file: options.root_passphrase_file.clone(), no_passphrase: options.unlock.no_passphrase };
    let passphrase =
        unlock.passphrase(name.as_str(), context.root_passphrase.as_ref(), "PARVIS_ROOT_PASSPHRASE", Purpose::Open, context)?;
    let root = keys.open(name, &passphrase).map_err(from_keys)?;
    Ok(Some((keyring, root)))
}

/// Lets the root key vouch for a key from now on.
fn vouch(
    keys: &Keys,
    mut keyring: Keyring,
    root: &SigningKey,
    name: &KeyName,
    key: &PublicKey,
    options: &Options,
    context: &Context<'_>,
) -> Answer {
    let now = Moment(context.now);
    let fingerprint = key.fingerprint();
    if keyring.revoked.iter().any(|revoked| revoked.key == fingerprint) {
        return Err(Failure::project(format!("the key {fingerprint} was revoked")).hint("make a new one"));
    }
    keyring.keys.retain(|known| known.key != *key);
    keyring.keys.push(ReleaseKey { name: name.clone(), key: key.clone(), from: now, until: after(now, options.days) });
    renew(keys, keyring, root, options, context)
}

fn renew(keys: &Keys, mut keyring: Keyring, root: &SigningKey, options: &Options, context: &Context<'_>) -> Answer {
    keyring.version += 1;
    keyring.issued = Moment(context.now);
    keyring.expires = after(keyring.issued, options.renew_within);
    keep(keys, &keyring, root)
}

fn keep(keys: &Keys, keyring: &Keyring, root: &SigningKey) -> Answer {
    let signed = keyring.sign(root).and_then(|bundle| Ok(bundle.to_bytes()?));
    let signed = signed.map_err(|error| Failure::bug("the keyring cannot be signed").because(error))?;
    keys.write_keyring(&signed).map_err(from_keys)
}

fn after(moment: Moment, days: u16) -> Moment {
    Moment(moment.0.saturating_add(i64::from(days) * DAY))
}

/// Where a new key comes from.
enum Replacement<'a> {
    None,
    Made,
    Public(&'a Path),
}

fn rotate(
    keys: &Keys,
    name: &KeyName,
    replacement: &Replacement<'_>,
    revoke: Option<&str>,
    options: &Options,
    context: &Context<'_>,
) -> Answer {
    let now = Moment(context.now);
    let root = open_root(keys, options, context)?;
    let Some((mut keyring, root)) = root else {
        return Err(Failure::project("the root key is not here, and only it can vouch for another key").hint(
            "run this where the root key is, and take the new public key there with `--public FILE`; without a root key, make a new key under another name",
        ));
    };
    if matches!(replacement, Replacement::None) {
        renew(keys, keyring, &root, options, context)?;
        context.answer(
            || json!({"keyring": keys.keyring_file(), "expires": after(now, options.renew_within).to_string()}),
            || {
                vec![format!(
                    "the list of keys is good until {}: {}",
                    after(now, options.renew_within).day(),
                    keys.keyring_file().display()
                )]
            },
        );
        return Ok(());
    }
    let given = match replacement {
        Replacement::Public(file) => Some(keys::public_key(file).map_err(from_keys)?),
        _ => None,
    };
    let passphrase = if given.is_none() { Some(close(name, options, context)?) } else { None };
    // What the old key was: those in force under this name.
    let old: Vec<PublicKey> =
        keyring.keys.iter().filter(|known| known.name == *name && known.until >= now).map(|known| known.key.clone()).collect();
    for key in &mut keyring.keys {
        if key.name == *name && key.until > now && given.as_ref() != Some(&key.key) {
            // A key has some time, be it a second.
            key.until = if now > key.from { now } else { Moment(key.from.0 + 1) };
        }
    }
    if let Some(why) = revoke {
        keyring.revoked.extend(old.iter().map(|key| RevokedKey { key: key.fingerprint(), since: now, why: why.to_owned() }));
        keyring.keys.retain(|key| !old.contains(&key.key));
    }
    let key = match (given, passphrase) {
        (Some(key), _) => key,
        (None, Some(passphrase)) => {
            if keys.has(name) {
                keys.rename(name, &retired(keys, name)?).map_err(from_keys)?;
            }
            keys.make(name, &passphrase).map_err(from_keys)?.public().clone()
        }
        (None, None) => return Err(Failure::bug("a new key has no passphrase")),
    };
    vouch(keys, keyring, &root, name, &key, options, context)?;
    let mut advice =
        vec![format!("Hand out {} with your releases: it says that the new key counts.", keys.keyring_file().display())];
    if revoke.is_some() {
        advice
            .push("Sign the newest release again with the new key: what the old one signed does not count any more.".to_owned());
    }
    report(keys, name, &key, context, &advice);
    Ok(())
}

/// Returns the name under which the old key of a name is kept.
fn retired(keys: &Keys, name: &KeyName) -> Result<KeyName, Failure> {
    let fingerprint = keys.public(name).map_err(from_keys)?.fingerprint().to_string().to_lowercase();
    let short: String = fingerprint.chars().take(4).collect();
    format!("{name}-{short}")
        .parse()
        .map_err(|error| Failure::project(format!("the name `{name}` is too long")).because(error).hint("use a shorter one"))
}

fn report(keys: &Keys, name: &KeyName, key: &PublicKey, context: &Context<'_>, advice: &[String]) {
    context.answer(
        || {
            json!({
                "name": name, "fingerprint": key.fingerprint(), "public": keys.public_file(name),
                "private": keys.has(name).then(|| keys.private(name)), "keyring": keys.keyring_file().exists().then(|| keys.keyring_file()),
            })
        },
        || {
            let mut lines = vec![format!("{name}  {}", key.fingerprint())];
            lines.extend(advice.iter().cloned());
            lines
        },
    );
}

fn show(keys: &Keys, name: Option<&KeyName>, context: &Context<'_>) -> Answer {
    let names = match name {
        Some(name) => vec![name.clone()],
        None => keys.names().map_err(from_keys)?,
    };
    if names.is_empty() {
        return Err(
            Failure::project(format!("there is no key in `{}`", keys.folder().display())).hint("make one with `parvis key new`")
        );
    }
    let keyring = keys.keyring().map_err(from_keys)?;
    let mut found = Vec::new();
    for name in names {
        let key = keys.public(&name).map_err(from_keys)?;
        let role = match &keyring {
            Some(keyring) if keyring.root == key => "root".to_owned(),
            Some(keyring) => match keyring.standing(&key, Moment(context.now)) {
                crate::trust::keyring::Standing::InForce(known) => format!("signs until {}", known.until.day()),
                crate::trust::keyring::Standing::OutOfTime(known) => {
                    format!("signed from {} until {}", known.from.day(), known.until.day())
                }
                crate::trust::keyring::Standing::Revoked(revoked) => {
                    format!("revoked on {}: {}", revoked.since.day(), revoked.why)
                }
                crate::trust::keyring::Standing::Unknown => "the root key does not vouch for it".to_owned(),
            },
            None => "stands alone".to_owned(),
        };
        let private = if keys.has(&name) { "here" } else { "elsewhere" };
        found.push((name, key, role, private));
    }
    let expires = keyring.as_ref().map(|keyring| keyring.expires);
    context.answer(
        || {
            let one = |(name, key, role, private): &(KeyName, PublicKey, String, &str)| {
                json!({"name": name, "fingerprint": key.fingerprint(), "role": role, "private": private, "pem": key.to_pem()})
            };
            json!({"keys": found.iter().map(one).collect::<Vec<_>>(), "keyring_version": keyring.as_ref().map(|keyring| keyring.version), "keyring_expires": expires})
        },
        || {
            let row = |(name, key, role, private): &(KeyName, PublicKey, String, &str)| {
                vec![name.to_string(), key.fingerprint().to_string(), format!("private half {private}"), role.clone()]
            };
            let rows: Vec<_> = found.iter().map(row).collect();
            let mut lines = crate::screen::table(&["key", "fingerprint", "", ""], &rows);
            lines.extend(expires.map(|expires| format!("the root key's list is to be renewed before {} (`parvis key rotate --renew`)", expires.day())));
            lines
        },
    );
    Ok(())
}
