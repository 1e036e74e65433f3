//! `parvis trust`: whose signatures count on this machine.
//!
//! Only the user's own folder says whom to trust, and never a project's or a bundle's: a folder that was handed over would vouch for itself.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::key::from_keys;
use super::{Answer, Context};
use crate::edge::keys::{self, KeysError, Pinned, TrustFolder};
use crate::failure::Failure;
use crate::model::moment::Moment;
use crate::model::name::KeyName;
use crate::screen::table;
use crate::trust::key::Fingerprint;
use crate::trust::keyring::{Keyring, Standing};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Trust a public key (FILE.pub), or a root key by the list that it signed (keyring.sigstore.json)
    Add {
        /// The file
        file: PathBuf,
        /// Fingerprint that you were given another way, on paper or by telephone; another key is refused
        #[arg(long, value_name = "FINGERPRINT")]
        fingerprint: Option<Fingerprint>,
        /// Name under which it is kept (default: that of the file)
        #[arg(long, value_name = "NAME")]
        name: Option<KeyName>,
    },
    /// List who is trusted
    List,
    /// Trust a key no longer
    Remove {
        /// Its name
        name: KeyName,
    },
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let folder = TrustFolder::new(&context.config);
    match &arguments.action {
        Action::Add { file, fingerprint, name } => add(&folder, file, fingerprint.as_ref(), name.as_ref(), context),
        Action::List => list(&folder, context),
        Action::Remove { name } => remove(&folder, name, context),
    }
}

fn add(folder: &TrustFolder, file: &Path, wanted: Option<&Fingerprint>, name: Option<&KeyName>, context: &Context<'_>) -> Answer {
    let (key, keyring) = match keys::public_key(file) {
        Ok(key) => (key, None),
        Err(KeysError::Key { source: crate::trust::key::KeyError::NoPublicKey, .. } | KeysError::Io { .. }) if file.is_file() => {
            let keyring = keys::signed_keyring(file)
                .map_err(|error| from_keys(error).hint("name a file that ends in `.pub`, or a `keyring.sigstore.json`"))?;
            let keyring = keyring.ok_or_else(|| Failure::world(format!("`{}` is gone", file.display())))?;
            (keyring.0.root.clone(), Some(keyring))
        }
        Err(error) => return Err(from_keys(error)),
    };
    let found = key.fingerprint();
    if let Some(wanted) = wanted.filter(|wanted| **wanted != found) {
        return Err(Failure::no(format!("`{}` is another key: its fingerprint is {found}, and not {wanted}", file.display()))
            .hint("do not trust it; ask whom it came from for the file again"));
    }
    let known = folder.all().map_err(from_keys)?;
    let name = match name.cloned().or_else(|| known.iter().find(|pinned| pinned.key == key).map(|pinned| pinned.name.clone())) {
        Some(name) => name,
        None => name_of(file)?,
    };
    if let Some(other) = known.iter().find(|pinned| pinned.name == name && pinned.key != key) {
        return Err(Failure::project(format!("`{name}` is another key already: {}", other.key.fingerprint()))
            .hint("choose a name with `--name`, or remove the other one with `parvis trust remove`"));
    }
    let before = known.iter().find(|pinned| pinned.key == key);
    if let (Some((keyring, _)), Some(Pinned { keyring: Some(before), .. })) = (&keyring, before)
        && keyring.version < before.version
    {
        return Err(Failure::no(format!(
            "`{}` is an older list of keys ({}) than the one that is known ({})",
            file.display(),
            keyring.version,
            before.version
        ))
        .hint("take the newer one; an older list may still name a key that was revoked"));
    }
    folder.add(&name, &key).map_err(from_keys)?;
    if let Some((_, signed)) = &keyring {
        folder.write_keyring(&name, signed).map_err(from_keys)?;
    }
    context.answer(
        || json!({"name": name, "fingerprint": found, "compared": wanted.is_some(), "keyring_version": keyring.as_ref().map(|(keyring, _)| keyring.version)}),
        || {
            let mut lines = vec![format!("{name}  {found}  is trusted from now on")];
            if wanted.is_none() && before.is_none() {
                lines.push(format!(
                    "Compare this fingerprint with the one that you were given another way. If it differs: `parvis trust remove {name}`."
                ));
            }
            lines
        },
    );
    Ok(())
}

/// Returns the name that a file suggests: `civiparoisse` of `civiparoisse.pub`.
fn name_of(file: &std::path::Path) -> Result<KeyName, Failure> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_lowercase();
    let name = name.split('.').next().unwrap_or_default();
    name.parse().map_err(|error| {
        Failure::project(format!("`{}` suggests no name", file.display())).because(error).hint("give one with `--name`")
    })
}

fn list(folder: &TrustFolder, context: &Context<'_>) -> Answer {
    let known = folder.all().map_err(from_keys)?;
    let now = Moment(context.now);
    context.answer(
        || {
            let one = |pinned: &Pinned| {
                let keyring = pinned.keyring.as_ref();
                let signing: Vec<_> = keyring.iter().flat_map(|keyring| in_force(keyring, now)).map(|(name, fingerprint)| json!({"name": name, "fingerprint": fingerprint})).collect();
                json!({
                    "name": pinned.name, "fingerprint": pinned.key.fingerprint(), "keyring_version": keyring.map(|keyring| keyring.version),
                    "keyring_expires": keyring.map(|keyring| keyring.expires), "keys": signing,
                })
            };
            json!({"trusted": known.iter().map(one).collect::<Vec<_>>()})
        },
        || {
            if known.is_empty() {
                return vec!["nobody is trusted; `parvis trust add FILE` changes that".to_owned()];
            }
            let row = |pinned: &Pinned| {
                let about = match &pinned.keyring {
                    None => "its own signatures count".to_owned(),
                    Some(keyring) => {
                        let names: Vec<String> = in_force(keyring, now).map(|(name, fingerprint)| format!("{name} {fingerprint}")).collect();
                        format!("vouches until {} for: {}", keyring.expires.day(), if names.is_empty() { "nobody".into() } else { names.join(", ") })
                    }
                };
                vec![pinned.name.to_string(), pinned.key.fingerprint().to_string(), about]
            };
            table(&["name", "fingerprint", ""], &known.iter().map(row).collect::<Vec<_>>())
        },
    );
    Ok(())
}

/// Returns the keys that count now.
fn in_force(keyring: &Keyring, now: Moment) -> impl Iterator<Item = (&KeyName, Fingerprint)> {
    let counts =
        move |known: &&crate::trust::keyring::ReleaseKey| matches!(keyring.standing(&known.key, now), Standing::InForce(_));
    keyring.keys.iter().filter(counts).map(|known| (&known.name, known.key.fingerprint()))
}

fn remove(folder: &TrustFolder, name: &KeyName, context: &Context<'_>) -> Answer {
    if !folder.remove(name).map_err(from_keys)? {
        return Err(Failure::project(format!("`{name}` is not trusted")).hint("`parvis trust list` shows who is"));
    }
    context.answer(|| json!({"removed": name}), || vec![format!("{name} is trusted no longer")]);
    Ok(())
}
